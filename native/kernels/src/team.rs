//! Tasks of one operation, shared by the thread that calls it and helpers: the threads of rayon's global pool.
//!
//! A network's operations take from some microseconds to some milliseconds and follow each other at once. A pool that is called
//! from outside has to wake its threads for each of them, and then the caller. Here the caller takes its share, helpers stay for
//! a moment after their last task, and a helper that comes when all tasks are taken is not waited for.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a helper stays without work.
const STAY: Duration = Duration::from_micros(200);
/// How often a thread looks whether its wait is over, before it lets others run.
const LOOKS: usize = 128;

/// Who does an operation's tasks.
pub(crate) enum Workers {
    /// This thread: its pool has no other, or it does a task of the team already.
    Alone,
    /// This thread and its helpers.
    Team(Team),
    /// The current pool: the one that this thread is of, or the global one while the team works for somebody else.
    Pool,
}

/// The right to the helpers.
pub(crate) struct Team(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

/// Which task is taken next. The caller begins at one end and helpers at the other, so that with two threads each finds in its
/// caches what it wrote in the operation before.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// Does tasks until none are left.
type Work<'a> = &'a (dyn Fn(End) + Sync);

/// What helpers find.
struct Post {
    /// It may be taken while it stands here, and is valid until nobody is at work.
    work: Option<Work<'static>>,
    /// What a helper's task panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

/// Held by the thread that has the helpers.
static CALLED: Mutex<()> = Mutex::new(());
static POST: Mutex<Post> = Mutex::new(Post { work: None, panic: None });
/// How often work has been posted.
static POSTS: AtomicUsize = AtomicUsize::new(0);
/// Helpers that have taken the posted work and not ended it.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
/// Helpers that are there, or asked for.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread does tasks of the team.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Who does the tasks of an operation that this thread calls.
pub(crate) fn workers() -> Workers {
    if rayon::current_num_threads() == 1 || BUSY.get() {
        return Workers::Alone;
    }
    if rayon::current_thread_index().is_some() {
        return Workers::Pool;
    }
    match CALLED.try_lock() {
        Ok(held) => Workers::Team(Team(held)),
        Err(TryLockError::Poisoned(held)) => Workers::Team(Team(held.into_inner())),
        Err(TryLockError::WouldBlock) => Workers::Pool,
    }
}

impl Team {
    /// Runs `work` on each of `tasks`.
    pub fn each<T: Send>(self, tasks: impl DoubleEndedIterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let tasks = Mutex::new(tasks);
        let take = |end| match end {
            End::First => lock(&tasks).next(),
            End::Last => lock(&tasks).next_back(),
        };
        share(&|end| {
            while let Some(task) = take(end) {
                work(task);
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `over`, for so long at most.
fn wait(most: Duration, over: impl Fn() -> bool) {
    let begin = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if over() {
                return;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() > most {
            return;
        }
        std::thread::yield_now();
    }
}

/// Runs `work` here and wherever there is a helper; it has ended everywhere when this returns or panics.
fn share(work: Work) {
    struct Posted;
    impl Drop for Posted {
        fn drop(&mut self) {
            BUSY.set(false);
            lock(&POST).work = None;
            wait(Duration::MAX, || AT_WORK.load(Ordering::Acquire) == 0);
        }
    }
    let posted = Posted;
    // SAFETY: it is taken away, and everybody who took it has ended it, before `posted` is gone.
    let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
    *lock(&POST) = Post { work: Some(work), panic: None };
    POSTS.fetch_add(1, Ordering::Release);
    for _ in HELPERS.load(Ordering::Acquire) + 1..rayon::current_num_threads() {
        HELPERS.fetch_add(1, Ordering::AcqRel);
        rayon::spawn(help);
    }
    BUSY.set(true);
    work(End::First);
    drop(posted);
    if let Some(panic) = lock(&POST).panic.take() {
        resume_unwind(panic);
    }
}

/// What a helper does.
fn help() {
    BUSY.set(true);
    let mut seen = None;
    loop {
        let posts = || Some(POSTS.load(Ordering::Acquire));
        wait(STAY, || posts() != seen);
        if posts() == seen {
            break;
        }
        seen = posts();
        let work = {
            let post = lock(&POST);
            if post.work.is_some() {
                // Before the work can be taken away.
                AT_WORK.fetch_add(1, Ordering::AcqRel);
            }
            post.work
        };
        let Some(work) = work else { continue };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(End::Last))) {
            lock(&POST).panic.get_or_insert(panic);
        }
        AT_WORK.fetch_sub(1, Ordering::AcqRel);
    }
    BUSY.set(false);
    HELPERS.fetch_sub(1, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use crate::storage::each_task;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How often each of so many tasks ran.
    fn counts(tasks: usize, work: impl Fn(usize) + Sync + Send) -> Vec<usize> {
        let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        each_task((0..tasks).collect(), |i| {
            work(i);
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_is_done_once_whoever_else_calls() {
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait();
                    for tasks in (0..400).map(|i| i % 40) {
                        assert_eq!(counts(tasks, |_| ()), vec![1; tasks]);
                    }
                });
            }
        });
    }

    #[test]
    fn tasks_of_tasks_are_done() {
        assert_eq!(counts(9, |i| assert_eq!(counts(i, |_| ()), vec![1; i])), vec![1; 9]);
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_tasks_have_ended() {
        for bad in [0, 5, 99] {
            let running = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                each_task((0..100).collect(), |i| {
                    running.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_micros(50));
                    running.fetch_sub(1, Ordering::Relaxed);
                    assert_ne!(i, bad);
                });
            }));
            assert!(result.is_err());
            assert_eq!(running.into_inner(), 0);
            assert_eq!(counts(20, |_| ()), vec![1; 20]);
        }
    }
}
