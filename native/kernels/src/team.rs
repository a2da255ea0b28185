//! Tasks of one operation, shared by the thread that calls it and the threads of rayon's global pool.
//!
//! A network's operations take from a few microseconds to some milliseconds and follow each other at once. A pool that is
//! called from outside has to wake its threads for each of them, while the caller sleeps: that took a tenth of a step of
//! training. Here the caller takes its share, helpers stay for a moment after their last task, and a helper that comes when
//! all tasks are taken is not waited for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a helper stays without work.
const STAY: Duration = Duration::from_micros(200);
/// Looks at what is waited for, before other threads may run.
const LOOKS: usize = 128;

/// Takes tasks until there are none, from the first on or from the last on.
type Work<'a> = &'a (dyn Fn(End) + Sync);

/// Which task is taken next. The caller and one helper have a half each, so that they find in their caches what they wrote.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// What helpers find.
struct Post {
    /// Valid while it stands here, and until nobody is at work.
    work: Option<Work<'static>>,
    /// Of a helper whose task has panicked.
    panic: Option<Box<dyn Any + Send>>,
}

struct Team {
    /// Held by the one caller who has helpers.
    called: Mutex<()>,
    post: Mutex<Post>,
    /// Changes with every post.
    posts: AtomicUsize,
    /// Helpers that have taken the work of the post and not ended it.
    at_work: AtomicUsize,
    /// Helpers that are there, or asked for.
    helpers: AtomicUsize,
}

static TEAM: Team = Team {
    called: Mutex::new(()),
    post: Mutex::new(Post { work: None, panic: None }),
    posts: AtomicUsize::new(0),
    at_work: AtomicUsize::new(0),
    helpers: AtomicUsize::new(0),
};

/// The team, for one operation.
pub(crate) struct Called {
    _held: MutexGuard<'static, ()>,
}

/// Calls the team; `None` on a pool's own threads, which have that pool, and while others have the team.
pub(crate) fn call() -> Option<Called> {
    match rayon::current_thread_index() {
        Some(_) => None,
        None => Some(Called { _held: TEAM.called.try_lock().ok()? }),
    }
}

impl Called {
    /// Runs `work` on each of `tasks`.
    pub fn each<T: Send>(self, tasks: impl DoubleEndedIterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let tasks = Mutex::new(tasks);
        let take = |end| match end {
            End::First => lock(&tasks).next(),
            End::Last => lock(&tasks).next_back(),
        };
        TEAM.share(&|end| {
            while let Some(task) = take(end) {
                work(task);
            }
        });
    }
}

/// Nothing panics while any of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `done`, for so long at most.
fn wait(most: Duration, done: impl Fn() -> bool) {
    let begin = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if done() {
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

impl Team {
    /// Runs `work` here, and wherever there are helpers. It has ended everywhere when this returns.
    fn share(&'static self, work: Work) {
        /// Takes the work away again, also when the caller's own part of it panics.
        struct Posted(&'static Team);
        impl Drop for Posted {
            fn drop(&mut self) {
                lock(&self.0.post).work = None;
                wait(Duration::MAX, || self.0.at_work.load(Ordering::Acquire) == 0);
            }
        }
        let posted = Posted(self);
        // SAFETY: nobody has it any more when `posted` is dropped.
        lock(&self.post).work = Some(unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) });
        self.posts.fetch_add(1, Ordering::Release);
        for _ in self.helpers.load(Ordering::Acquire) + 1..rayon::current_num_threads() {
            self.helpers.fetch_add(1, Ordering::AcqRel);
            rayon::spawn(|| self.help());
        }
        work(End::First);
        drop(posted);
        if let Some(panic) = lock(&self.post).panic.take() {
            resume_unwind(panic);
        }
    }

    /// What a helper does.
    fn help(&self) {
        let mut seen = None;
        loop {
            wait(STAY, || Some(self.posts.load(Ordering::Acquire)) != seen);
            let posts = Some(self.posts.load(Ordering::Acquire));
            if posts == seen {
                break;
            }
            seen = posts;
            let work = {
                let post = lock(&self.post);
                // Counted before the work can be taken away.
                post.work.inspect(|_| {
                    self.at_work.fetch_add(1, Ordering::AcqRel);
                })
            };
            if let Some(work) = work {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(End::Last))) {
                    lock(&self.post).panic.get_or_insert(panic);
                }
                self.at_work.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.helpers.fetch_sub(1, Ordering::AcqRel);
    }
}
