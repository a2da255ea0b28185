//! The one table of everything the caller holds by number.
//!
//! A handle is 20 bits of slot and 12 bits of generation. A released slot comes back with the next generation, so an
//! old handle is recognised; a slot whose generations are used up is not used again. Handle 0 is never given out.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::context::Refusal;

const SLOT_BITS: u32 = 20;
const SLOTS: usize = 1 << SLOT_BITS;
const LAST_GENERATION: u32 = (1 << (32 - SLOT_BITS)) - 1;

/// A type that the caller may hold by handle.
pub trait Object: Any + Send + Sync {
    /// What messages call it, for example `"tensor"`.
    const KIND: &'static str;
}

impl Object for Tensor {
    const KIND: &'static str = "tensor";
}

#[derive(Clone)]
struct Entry {
    kind: &'static str,
    object: Arc<dyn Any + Send + Sync>,
}

struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

struct Table {
    slots: Vec<Slot>,
    // First in, first out: the longer a slot rests, the later a stale handle could meet a new object.
    free: VecDeque<usize>,
}

static TABLE: Mutex<Table> = Mutex::new(Table { slots: Vec::new(), free: VecDeque::new() });

thread_local! {
    // Handles made by the verb that runs on this thread, given back if its caller never learns of them.
    static MADE: RefCell<Option<Vec<u32>>> = const { RefCell::new(None) };
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts an object into the table and gives its handle.
///
/// A handle made while a verb runs belongs to the caller only once the verb's reply has reached it: if the verb fails
/// afterwards, the handle is released again. Insert from the thread of the verb, not from worker threads.
///
/// # Panics
/// When a million objects are alive at once (`catch_unwind` at the boundary turns this into `native-panic`).
pub fn insert<T: Object>(object: T) -> u32 {
    insert_shared(Arc::new(object))
}

/// As [`insert`], for an object that native code goes on sharing.
pub fn insert_shared<T: Object>(object: Arc<T>) -> u32 {
    let entry = Entry { kind: T::KIND, object };
    let mut table = table();
    let index = match table.free.pop_front() {
        Some(index) => index,
        None => {
            let index = table.slots.len();
            assert!(index < SLOTS, "more than {SLOTS} objects are alive: release some");
            table.slots.push(Slot { generation: 1, entry: None });
            index
        }
    };
    let slot = &mut table.slots[index];
    slot.entry = Some(entry);
    let handle = (slot.generation << SLOT_BITS) | index as u32;
    drop(table);
    MADE.with_borrow_mut(|made| {
        if let Some(made) = made {
            made.push(handle);
        }
    });
    handle
}

fn find(handle: u32) -> Option<Entry> {
    let (generation, index) = (handle >> SLOT_BITS, (handle & (SLOTS as u32 - 1)) as usize);
    let table = table();
    let slot = table.slots.get(index)?;
    if slot.generation == generation { slot.entry.clone() } else { None }
}

/// The object behind a handle, refused when the handle is unknown, released, or of another kind.
pub fn get<T: Object>(handle: u32) -> Result<Arc<T>, Refusal> {
    let Some(entry) = find(handle) else {
        return Err(Refusal::bad_handle(format!("handle {handle} names nothing: a live {} is needed", T::KIND)));
    };
    entry
        .object
        .downcast::<T>()
        .map_err(|_| Refusal::bad_handle(format!("handle {handle} is a {}: a {} is needed", entry.kind, T::KIND)))
}

/// The tensor behind a handle (a cheap clone: tensors share their storage).
pub fn tensor(handle: u32) -> Result<Tensor, Refusal> {
    Ok(get::<Tensor>(handle)?.as_ref().clone())
}

/// Releases a handle. A handle that names nothing is left alone, so releasing twice is harmless.
pub fn release(handle: u32) {
    let (generation, index) = (handle >> SLOT_BITS, (handle & (SLOTS as u32 - 1)) as usize);
    let mut table = table();
    let Some(slot) = table.slots.get_mut(index) else { return };
    if slot.generation != generation {
        return;
    }
    let Some(entry) = slot.entry.take() else { return };
    if generation < LAST_GENERATION {
        slot.generation += 1;
        table.free.push_back(index);
    }
    drop(table);
    let kind = entry.kind;
    // Outside the lock: freeing a big tensor takes long, and an object may release handles of its own.
    drop(entry);
    // What its work needed is not needed again soon.
    if ["network", "trainer"].contains(&kind) {
        kinora_kernels::buffers::release();
    }
}

/// How many objects of each kind are alive, and the bytes of the tensors among them (storage shared by two tensors
/// counts for each).
pub fn live() -> (BTreeMap<&'static str, usize>, u64) {
    let mut counts = BTreeMap::new();
    let mut bytes = 0;
    for entry in table().slots.iter().filter_map(|slot| slot.entry.as_ref()) {
        *counts.entry(entry.kind).or_insert(0) += 1;
        if let Some(tensor) = entry.object.downcast_ref::<Tensor>() {
            bytes += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        }
    }
    (counts, bytes)
}

/// Runs `work` and gives, beside its result, every handle it made on this thread.
pub(crate) fn recording<R>(work: impl FnOnce() -> R) -> (R, Vec<u32>) {
    // Restores the outer recording also when `work` unwinds.
    struct Restore(Option<Vec<u32>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MADE.set(self.0.take());
        }
    }
    let restore = Restore(MADE.replace(Some(Vec::new())));
    let result = work();
    let made = MADE.take().unwrap_or_default();
    drop(restore);
    (result, made)
}

/// Releases every handle of a list.
pub(crate) fn release_all(handles: &[u32]) {
    for &handle in handles {
        release(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;
    impl Object for Thing {
        const KIND: &'static str = "thing";
    }

    #[test]
    fn a_released_handle_stays_dead() {
        let first = insert(Thing);
        release(first);
        release(first);
        assert_eq!(get::<Thing>(first).err().unwrap().code, "bad-handle");
        for _ in 0..5000 {
            let next = insert(Thing);
            assert_ne!(next, first);
            release(next);
        }
        assert!(get::<Thing>(first).is_err());
    }

    #[test]
    fn kinds_are_checked() {
        let handle = insert(Thing);
        let message = tensor(handle).unwrap_err().message;
        assert!(message.contains("is a thing") && message.contains("a tensor is needed"), "{message}");
        release(handle);
        assert!(get::<Thing>(0).is_err() && get::<Thing>(u32::MAX).is_err());
    }

    #[test]
    fn recording_lists_what_was_made() {
        let (kept, made) = recording(|| (insert(Thing), insert(Thing)));
        assert_eq!(made, vec![kept.0, kept.1]);
        release_all(&made);
        assert!(get::<Thing>(kept.0).is_err());
    }
}
