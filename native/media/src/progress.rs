use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;

/// Called as work goes on with (done, all), from any thread; an error stops the work, and what it wrote is removed.
pub type Progress<'a> = &'a (dyn Fn(u32, u32) -> Result<()> + Sync);

/// Counts steps that end on several threads.
pub(crate) struct Steps<'a> {
    done: AtomicU32,
    all: u32,
    progress: Progress<'a>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(all: usize, progress: Progress<'a>) -> Self {
        Self { done: AtomicU32::new(0), all: u32::try_from(all).unwrap_or(u32::MAX), progress }
    }

    /// One more is done.
    pub(crate) fn one(&self) -> Result<()> {
        (self.progress)(self.done.fetch_add(1, Ordering::Relaxed) + 1, self.all)
    }
}
