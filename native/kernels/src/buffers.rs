//! An allocator that keeps large buffers: a network frees and asks for the same sizes again and again, and the system
//! hands out new memory page by page, which took up to a quarter of a step of training.
//!
//! What is kept and what is in use are together never more than what was in use at the worst moment, so a process does
//! not become larger by it; it becomes smaller again by [`release`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The least bytes of a buffer that is kept; smaller ones the system's own allocator keeps.
const LEAST: usize = 1 << 20;
/// Sizes are rounded up to one of so many steps between two powers of two.
const STEPS: usize = 8;
/// Powers of two from `LEAST` on.
const POWERS: usize = 22;
const CLASSES: usize = POWERS * STEPS;
/// The most alignment that is asked of the system without saying so.
const PAGE: usize = 4096;
/// From here on pages of 2 MB pay.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

/// The allocator, for `#[global_allocator]` of a library or a program; all values of it are one.
pub struct KeptBuffers;

static KEPT: Kept = Kept::new();

/// Gives what is kept back to the system: when a network is freed, or work has ended for a while.
pub fn release() {
    KEPT.release();
}

// SAFETY: every block comes from `Kept` or `System`, chosen by the layout alone, and goes back to the same.
unsafe impl GlobalAlloc for KeptBuffers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => KEPT.take(class).0,
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else { return unsafe { System.alloc_zeroed(layout) } };
        let (block, fresh) = KEPT.take(class);
        if !fresh && !block.is_null() {
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) => unsafe { KEPT.put(block, class) },
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (old, new) if old == new => block,
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

/// The class of a block, if it is one that is kept.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if size < LEAST || layout.align() > PAGE {
        return None;
    }
    // The class's size is (STEPS + step) / STEPS times a power of two, at least `size`.
    let power = (size.ilog2() - LEAST.ilog2()) as usize;
    let step = (size - (LEAST << power)).div_ceil((LEAST << power) / STEPS);
    let class = power * STEPS + step;
    (class < CLASSES).then_some(class)
}

fn size_of(class: usize) -> usize {
    let power = LEAST << (class / STEPS);
    power + class % STEPS * (power / STEPS)
}

/// Blocks by class, each holding the address of the next.
struct Lists {
    first: [*mut u8; CLASSES],
    count: [usize; CLASSES],
    used: usize,
    kept: usize,
    /// The most that was used at a time.
    most: usize,
}

// SAFETY: the blocks belong to whoever holds the lists.
unsafe impl Send for Lists {}

struct Kept {
    lists: Mutex<Lists>,
}

impl Lists {
    fn pop(&mut self, class: usize) -> *mut u8 {
        let block = self.first[class];
        if !block.is_null() {
            // SAFETY: a block in a list begins with the address of the next, and is aligned to it.
            self.first[class] = unsafe { block.cast::<*mut u8>().read() };
            self.count[class] -= 1;
            self.kept -= size_of(class);
        }
        block
    }

    /// A block of the class that holds the most.
    fn pop_any(&mut self) -> Option<(*mut u8, usize)> {
        let class = (0..CLASSES).max_by_key(|&class| self.count[class] * size_of(class))?;
        let block = self.pop(class);
        (!block.is_null()).then_some((block, class))
    }
}

impl Kept {
    const fn new() -> Self {
        let lists = Lists { first: [null_mut(); CLASSES], count: [0; CLASSES], used: 0, kept: 0, most: 0 };
        Self { lists: Mutex::new(lists) }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // Nothing panics while it is held.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block, and whether it is new and so zero; null when the system has none.
    fn take(&self, class: usize) -> (*mut u8, bool) {
        let size = size_of(class);
        let mut lists = self.lists();
        lists.used += size;
        lists.most = lists.most.max(lists.used);
        let block = lists.pop(class);
        if !block.is_null() {
            return (block, false);
        }
        while lists.used + lists.kept > lists.most {
            let Some((other, class)) = lists.pop_any() else { break };
            drop(lists);
            // SAFETY: it has just left the lists.
            unsafe { give_back(other, size_of(class)) };
            lists = self.lists();
        }
        drop(lists);
        let mut block = ask_for(size);
        if block.is_null() {
            self.release();
            block = ask_for(size);
        }
        if block.is_null() {
            self.lists().used -= size;
        }
        (block, true)
    }

    /// # Safety
    /// The block was taken with this class and is not used any more.
    unsafe fn put(&self, block: *mut u8, class: usize) {
        let mut lists = self.lists();
        unsafe { block.cast::<*mut u8>().write(lists.first[class]) };
        lists.first[class] = block;
        lists.count[class] += 1;
        lists.kept += size_of(class);
        lists.used -= size_of(class);
    }

    fn release(&self) {
        let mut lists = self.lists();
        lists.most = lists.used;
        while let Some((block, class)) = lists.pop_any() {
            drop(lists);
            // SAFETY: it has just left the lists.
            unsafe { give_back(block, size_of(class)) };
            lists = self.lists();
        }
    }
}

/// Zeroed pages from the system, or null.
#[cfg(unix)]
fn ask_for(size: usize) -> *mut u8 {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping touches none that exists.
    let block = unsafe { libc::mmap(null_mut(), size, access, kind, -1, 0) };
    if block == libc::MAP_FAILED {
        return null_mut();
    }
    #[cfg(target_os = "linux")]
    if size >= HUGE {
        // SAFETY: advice about the mapping just made; where it is not taken, pages are small.
        unsafe { libc::madvise(block, size, libc::MADV_HUGEPAGE) };
    }
    block.cast()
}

/// # Safety
/// The block came from [`ask_for`] with this size and is not used any more.
#[cfg(unix)]
unsafe fn give_back(block: *mut u8, size: usize) {
    unsafe { libc::munmap(block.cast(), size) };
}

#[cfg(not(unix))]
fn ask_for(size: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    unsafe { System.alloc_zeroed(Layout::from_size_align_unchecked(size, PAGE)) }
}

/// # Safety
/// The block came from [`ask_for`] with this size and is not used any more.
#[cfg(not(unix))]
unsafe fn give_back(block: *mut u8, size: usize) {
    unsafe { System.dealloc(block, Layout::from_size_align_unchecked(size, PAGE)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_for_and_little_more() {
        for size in (LEAST..40 * LEAST).step_by(4093).chain([1 << 20, (1 << 20) + 1, 3 << 33]) {
            let class = class_of(Layout::from_size_align(size, 8).unwrap()).unwrap();
            let held = size_of(class);
            assert!(held >= size && held <= size + size / STEPS + 1, "{size}: {held}");
            assert!(class == 0 || size_of(class - 1) < size);
            assert_eq!(class_of(Layout::from_size_align(held, 8).unwrap()), Some(class));
        }
        assert_eq!(class_of(Layout::from_size_align(LEAST - 1, 8).unwrap()), None);
        assert_eq!(class_of(Layout::from_size_align(LEAST, 2 * PAGE).unwrap()), None);
    }

    #[test]
    fn blocks_come_back_and_no_more_is_held_than_was_used() {
        let kept = Kept::new();
        let (small, large) = (0, 3 * STEPS);
        let blocks: Vec<_> = (0..4).map(|_| kept.take(large)).collect();
        assert!(blocks.iter().all(|(block, fresh)| !block.is_null() && *fresh));
        for (block, _) in &blocks {
            unsafe { block.write_bytes(1, size_of(large)) };
            unsafe { kept.put(*block, large) };
        }
        let (again, fresh) = kept.take(large);
        assert!(!fresh && blocks.iter().any(|(block, _)| *block == again));
        // Other sizes take the place of what is kept.
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(kept.take(small).0);
            let lists = kept.lists();
            assert!(lists.used + lists.kept <= lists.most.max(lists.used), "{} + {}", lists.used, lists.kept);
        }
        assert_eq!(kept.lists().most, 4 * size_of(large));
        for block in others {
            unsafe { kept.put(block, small) };
        }
        unsafe { kept.put(again, large) };
        kept.release();
        let lists = kept.lists();
        assert_eq!((lists.used, lists.kept, lists.most), (0, 0, 0));
    }

    #[test]
    fn zeroed_memory_is_zero_and_growing_keeps_what_was_there() {
        let layout = Layout::from_size_align(3 * LEAST, 64).unwrap();
        unsafe {
            for _ in 0..2 {
                let block = KeptBuffers.alloc_zeroed(layout);
                let values = std::slice::from_raw_parts_mut(block, layout.size());
                assert!(values.iter().all(|value| *value == 0));
                values.fill(7);
                KeptBuffers.dealloc(block, layout);
            }
            let mut layout = Layout::from_size_align(100, 8).unwrap();
            let mut block = KeptBuffers.alloc(layout);
            block.write_bytes(9, 100);
            for size in [LEAST, LEAST + 1, 9 * LEAST, 50] {
                block = KeptBuffers.realloc(block, layout, size);
                layout = Layout::from_size_align(size, 8).unwrap();
                assert!(std::slice::from_raw_parts(block, 50).iter().all(|value| *value == 9));
            }
            KeptBuffers.dealloc(block, layout);
        }
    }
}
