//! An allocator that keeps large buffers: a network frees and asks for much the same sizes again and again, and the
//! system hands out new memory page by page, which took up to a quarter of a step of training.
//!
//! A buffer is cut from the smallest free range that holds it, and goes back beside its free neighbours. What is held stays
//! within a quarter of the most that was in use: where no range holds a buffer, others make place for it. [`release`]
//! gives everything back that is not in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The least bytes of a buffer that is kept; smaller ones the system's own allocator keeps. More than a node of the
/// trees of free ranges, which are allocated while a buffer is.
const LEAST: usize = 64 << 10;
/// Buffers begin at cache lines, and are one longer than asked for: were they powers of two apart, those that are read
/// together would compete for the same lines of the first cache.
const LINE: usize = 64;
/// A multiple of every system's pages.
const PAGE: usize = 64 << 10;
/// The least that is asked of the system at a time.
const SEGMENT: usize = 32 << 20;

/// The allocator, for `#[global_allocator]` of a library or a program; all values of it are one.
pub struct KeptBuffers;

static KEPT: Kept = Kept::new();

/// Gives what is kept back to the system: when a network is freed, or work has ended for a while.
pub fn release() {
    KEPT.ranges().release();
}

// SAFETY: every block comes from `Kept` or `System`, chosen by the layout alone, and goes back to the same.
unsafe impl GlobalAlloc for KeptBuffers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match length_of(layout) {
            Some(length) => KEPT.ranges().take(length),
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(length) = length_of(layout) else { return unsafe { System.alloc_zeroed(layout) } };
        let block = KEPT.ranges().take(length);
        if !block.is_null() {
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match length_of(layout) {
            Some(length) => KEPT.ranges().put(block, length),
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (length_of(layout), length_of(wanted)) {
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

/// Bytes of the range for a buffer, if it is one that is kept.
fn length_of(layout: Layout) -> Option<usize> {
    let kept = layout.size() >= LEAST && layout.align() <= LINE;
    kept.then(|| layout.size().next_multiple_of(LINE) + LINE)
}

struct Kept {
    ranges: Mutex<Ranges>,
}

impl Kept {
    const fn new() -> Self {
        Self { ranges: Mutex::new(Ranges::new()) }
    }

    fn ranges(&self) -> MutexGuard<'_, Ranges> {
        // Nothing panics while it is held.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The free ranges of what was had from the system, neighbours always joined.
struct Ranges {
    /// Length by address.
    lengths: BTreeMap<usize, usize>,
    /// (length, address)
    sizes: BTreeSet<(usize, usize)>,
    used: usize,
    free: usize,
    /// The most that was used at a time.
    most: usize,
}

impl Ranges {
    const fn new() -> Self {
        Self { lengths: BTreeMap::new(), sizes: BTreeSet::new(), used: 0, free: 0, most: 0 }
    }

    fn insert(&mut self, at: usize, length: usize) {
        self.lengths.insert(at, length);
        self.sizes.insert((length, at));
        self.free += length;
    }

    fn remove(&mut self, at: usize, length: usize) {
        self.lengths.remove(&at);
        self.sizes.remove(&(length, at));
        self.free -= length;
    }

    /// Makes a range free.
    fn join(&mut self, mut at: usize, mut length: usize) {
        if let Some((&before, &of_before)) = self.lengths.range(..at).next_back()
            && before + of_before == at
        {
            self.remove(before, of_before);
            (at, length) = (before, length + of_before);
        }
        if let Some(&of_next) = self.lengths.get(&(at + length)) {
            self.remove(at + length, of_next);
            length += of_next;
        }
        self.insert(at, length);
    }

    /// The start of a range of `length` bytes, whatever they hold; null when the system has none.
    fn take(&mut self, length: usize) -> *mut u8 {
        self.used += length;
        self.most = self.most.max(self.used);
        if self.smallest(length).is_none() {
            let more = length.next_multiple_of(PAGE).max(SEGMENT);
            let most = self.most + self.most / 4 + SEGMENT;
            self.give_back((self.used + self.free).saturating_sub(most));
            let mut block = ask_for(more);
            if block.is_null() {
                self.give_back(usize::MAX);
                block = ask_for(more);
            }
            if !block.is_null() {
                self.join(block.expose_provenance(), more);
            }
        }
        let Some((held, at)) = self.smallest(length) else {
            self.used -= length;
            return null_mut();
        };
        self.remove(at, held);
        if held > length {
            self.insert(at + length, held - length);
        }
        std::ptr::with_exposed_provenance_mut(at)
    }

    /// The smallest free range of at least `length` bytes.
    fn smallest(&self, length: usize) -> Option<(usize, usize)> {
        self.sizes.range((length, 0)..).next().copied()
    }

    fn put(&mut self, block: *mut u8, length: usize) {
        self.used -= length;
        self.join(block.expose_provenance(), length);
    }

    fn release(&mut self) {
        self.give_back(usize::MAX);
        self.most = self.used;
    }

    /// Gives the whole pages of the largest free ranges back to the system, until they are `wanted` bytes.
    fn give_back(&mut self, wanted: usize) {
        let (mut given, mut most) = (0, (usize::MAX, usize::MAX));
        while given < wanted
            && let Some(&(length, at)) = self.sizes.range(..most).next_back()
        {
            most = (length, at);
            let (first, end) = (at.next_multiple_of(PAGE), (at + length) / PAGE * PAGE);
            // SAFETY: nobody uses a free range.
            if first < end && unsafe { unmap(first, end - first) } {
                given += end - first;
                self.remove(at, length);
                if first > at {
                    self.insert(at, first - at);
                }
                if at + length > end {
                    self.insert(end, at + length - end);
                }
            }
        }
    }
}

/// Pages from the system, from a multiple of [`PAGE`] on so that all of them can be given back, or null.
#[cfg(unix)]
fn ask_for(length: usize) -> *mut u8 {
    let mut block = map(length);
    if !block.is_null() && !block.addr().is_multiple_of(PAGE) {
        // Where the system's own pages are smaller: more of them, without the edges.
        // SAFETY: nobody uses them.
        unsafe { unmap(block.addr(), length) };
        block = map(length + PAGE);
        if !block.is_null() {
            let first = block.addr().next_multiple_of(PAGE);
            let edges = [(block.addr(), first), (first + length, block.addr() + length + PAGE)];
            for (at, end) in edges.into_iter().filter(|(at, end)| at < end) {
                // SAFETY: as above; an edge that the system does not take stays unused.
                unsafe { unmap(at, end - at) };
            }
            block = block.with_addr(first);
        }
    }
    #[cfg(target_os = "linux")]
    if !block.is_null() {
        // SAFETY: advice about the mapping just made; where it is not taken, pages are small.
        unsafe { libc::madvise(block.cast(), length, libc::MADV_HUGEPAGE) };
    }
    block
}

/// A new mapping, or null.
#[cfg(unix)]
fn map(length: usize) -> *mut u8 {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: it touches none that exists.
    let block = unsafe { libc::mmap(null_mut(), length, access, kind, -1, 0) };
    if block == libc::MAP_FAILED { null_mut() } else { block.cast() }
}

/// Gives pages of [`ask_for`] back, if the system takes a part of what was asked for.
///
/// # Safety
/// They are not used any more.
#[cfg(unix)]
unsafe fn unmap(at: usize, length: usize) -> bool {
    unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(at), length) == 0 }
}

#[cfg(not(unix))]
fn ask_for(length: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    unsafe { System.alloc(Layout::from_size_align_unchecked(length, LINE)) }
}

#[cfg(not(unix))]
unsafe fn unmap(_: usize, _: usize) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges are within what was had, apart, joined, and counted.
    fn check(ranges: &Ranges) {
        let by_size: BTreeSet<_> = ranges.lengths.iter().map(|(&at, &length)| (length, at)).collect();
        assert_eq!(by_size, ranges.sizes);
        assert_eq!(ranges.lengths.values().sum::<usize>(), ranges.free);
        let neighbours = ranges.lengths.iter().zip(ranges.lengths.keys().skip(1));
        neighbours.for_each(|((&at, &length), &next)| assert!(at + length < next));
    }

    #[test]
    fn buffers_are_apart_and_what_is_held_is_little_more_than_what_was_used() {
        let (mut ranges, mut state) = (Ranges::new(), 1u64);
        let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
        for i in 0..3000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as usize;
            if held.len() > 20 || (random.is_multiple_of(3) && !held.is_empty()) {
                let (block, length, mark) = held.swap_remove(random % held.len());
                for at in [0, length / 2, length - 1] {
                    assert_eq!(unsafe { block.add(at).read() }, mark);
                }
                ranges.put(block, length);
            } else {
                let length = LEAST + random % (3 << 20) / LINE * LINE;
                let (block, mark) = (ranges.take(length), i as u8);
                assert!(!block.is_null() && block.addr().is_multiple_of(LINE));
                unsafe { block.write_bytes(mark, length) };
                held.push((block, length, mark));
            }
            check(&ranges);
            assert_eq!(ranges.used, held.iter().map(|(_, length, _)| length).sum::<usize>());
            assert!(ranges.used + ranges.free <= ranges.most + ranges.most / 4 + 2 * SEGMENT);
        }
        held.into_iter().for_each(|(block, length, _)| ranges.put(block, length));
        check(&ranges);
        ranges.release();
        check(&ranges);
        assert_eq!((ranges.used, ranges.most), (0, 0));
        #[cfg(unix)]
        assert_eq!(ranges.free, 0);
    }

    #[test]
    fn the_smallest_range_that_holds_a_buffer_is_cut_and_joined_again() {
        let mut ranges = Ranges::new();
        let blocks = [3 * LEAST, LEAST, 2 * LEAST, LEAST].map(|length| (ranges.take(length), length));
        ranges.put(blocks[0].0, blocks[0].1);
        ranges.put(blocks[2].0, blocks[2].1);
        let again = ranges.take(LEAST);
        assert_eq!(again, blocks[2].0);
        ranges.put(again, LEAST);
        assert_eq!(ranges.take(2 * LEAST), blocks[2].0);
        ranges.put(blocks[1].0, LEAST);
        assert_eq!(ranges.take(4 * LEAST), blocks[0].0);
    }

    #[test]
    fn which_buffers_are_kept() {
        let length = |size, align| length_of(Layout::from_size_align(size, align).unwrap());
        assert_eq!(length(LEAST - 1, 8), None);
        assert_eq!(length(LEAST, 2 * LINE), None);
        assert_eq!(length(LEAST, LINE), Some(LEAST + LINE));
        assert_eq!(length(LEAST + 1, 8), Some(LEAST + 2 * LINE));
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
