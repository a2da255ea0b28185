//! Long work: one native thread a job, watched by a version number and stopped by a flag.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{Context, Refusal};
use crate::handles::{self, Object};
use crate::verbs::Verb;

/// Backpropagation recurses over the graph of a whole network: 2 MiB would not do.
const STACK: usize = 64 << 20;

/// State of a job as the caller sees it.
pub mod state {
    /// The verb runs.
    pub const RUNNING: u32 = 0;
    /// The verb replied.
    pub const DONE: u32 = 1;
    /// The verb was refused, failed or panicked.
    pub const FAILED: u32 = 2;
    /// The verb stopped because it was asked to.
    pub const CANCELLED: u32 = 3;
}

struct Progress {
    state: u32,
    step: u32,
    total: u32,
    elapsed_ms: u32,
    // Rises with every change, so that a waiter can say what it has seen.
    version: u32,
    reply: Option<Result<String, Refusal>>,
    // Handles of the reply, until the caller has read it.
    unclaimed: Vec<u32>,
}

/// One piece of long work.
pub struct Job {
    cancel: Arc<AtomicBool>,
    started: Instant,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Object for Job {
    const KIND: &'static str = "job";
}

impl Job {
    /// Starts `verb` on a thread of its own and gives the job's handle.
    pub fn start(verb: Verb, request: Value) -> Result<u32, Refusal> {
        let job = Arc::new(Job {
            cancel: Arc::new(AtomicBool::new(false)),
            started: Instant::now(),
            progress: Mutex::new(Progress {
                state: state::RUNNING,
                step: 0,
                total: 0,
                elapsed_ms: 0,
                version: 1,
                reply: None,
                unclaimed: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let handle = handles::insert_shared(job.clone());
        let spawned = std::thread::Builder::new().name("kinora-job".into()).stack_size(STACK).spawn(move || {
            let context = Context::job(job.clone());
            let (reply, made) = run(verb, &context, &request);
            job.end(reply, made);
        });
        match spawned {
            Ok(_) => Ok(handle),
            Err(error) => {
                handles::release(handle);
                Err(Refusal::out_of_memory(format!("cannot start a thread for the job ({error})")))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.lock();
        change(&mut progress);
        progress.elapsed_ms = self.started.elapsed().as_millis().min(u32::MAX.into()) as u32;
        progress.version = progress.version.wrapping_add(1);
        drop(progress);
        self.changed.notify_all();
    }

    /// Notes that `step` of `total` steps are finished.
    pub fn progress(&self, step: u32, total: u32) {
        self.change(|progress| (progress.step, progress.total) = (step, total));
    }

    fn end(&self, reply: Result<String, Refusal>, made: Vec<u32>) {
        self.change(|progress| {
            progress.state = match &reply {
                Ok(_) => state::DONE,
                Err(refusal) if refusal.code == "cancelled" => state::CANCELLED,
                Err(_) => state::FAILED,
            };
            progress.reply = Some(reply);
            progress.unclaimed = made;
        });
    }

    /// Asks the job to stop; it does so at its next check.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The flag that [`Job::cancel`] sets.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }

    /// Waits until something changed since version `seen` or the time is over, and gives
    /// `[state, step, total, elapsed_ms, version, 0]`. An ended job answers at once.
    pub fn wait(&self, seen: u32, timeout: Duration) -> [u32; 6] {
        let progress = self.lock();
        let (progress, _) = self
            .changed
            .wait_timeout_while(progress, timeout, |p| p.version == seen && p.state == state::RUNNING)
            .unwrap_or_else(PoisonError::into_inner);
        [progress.state, progress.step, progress.total, progress.elapsed_ms, progress.version, 0]
    }

    /// The reply, as often as asked for; `None` while the job runs.
    pub fn reply(&self) -> Option<Result<String, Refusal>> {
        self.lock().reply.clone()
    }

    /// The caller has read the reply: its handles are the caller's from now on.
    pub fn claim(&self) {
        self.lock().unclaimed.clear();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let progress = self.progress.get_mut().unwrap_or_else(PoisonError::into_inner);
        handles::release_all(&progress.unclaimed);
    }
}

/// Runs a verb, turning a panic into a refusal. The handles it made come beside its reply and are already released
/// when there is none.
pub(crate) fn run(verb: Verb, context: &Context, request: &Value) -> (Result<String, Refusal>, Vec<u32>) {
    let (reply, made) = handles::recording(|| {
        catch_unwind(AssertUnwindSafe(|| verb(context, request))).unwrap_or_else(|panic| Err(panicked(&*panic)))
    });
    match reply {
        Ok(reply) => (Ok(reply.to_string()), made),
        Err(refusal) => {
            handles::release_all(&made);
            (Err(refusal), Vec::new())
        }
    }
}

/// What a caught panic said.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Refusal {
    let said = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Refusal::with("native-panic", crate::context::status::PANIC, format!("the native library panicked: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count(context: &Context, request: &Value) -> Result<Value, Refusal> {
        let total = request["total"].as_u64().unwrap() as u32;
        for step in 1..=total {
            context.check_cancelled()?;
            std::thread::sleep(Duration::from_millis(2));
            context.progress(step, total);
        }
        Ok(json!({ "steps": total }))
    }

    fn panics(_: &Context, _: &Value) -> Result<Value, Refusal> {
        panic!("as asked")
    }

    fn leaks(_: &Context, _: &Value) -> Result<Value, Refusal> {
        let tensor = candle_core::Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu)?;
        Ok(json!({ "tensor": handles::insert(tensor) }))
    }

    fn finish(job: &Job) -> [u32; 6] {
        let mut seen = 0;
        loop {
            let out = job.wait(seen, Duration::from_secs(5));
            if out[0] != state::RUNNING {
                return out;
            }
            seen = out[4];
        }
    }

    #[test]
    fn a_job_reports_progress_and_keeps_its_reply() {
        let handle = Job::start(count, json!({ "total": 5 })).unwrap();
        let job = handles::get::<Job>(handle).unwrap();
        let out = finish(&job);
        assert_eq!((out[0], out[1], out[2]), (state::DONE, 5, 5));
        for _ in 0..2 {
            assert_eq!(job.reply().unwrap().unwrap(), r#"{"steps":5}"#);
        }
        handles::release(handle);
    }

    #[test]
    fn a_cancelled_job_ends_as_cancelled() {
        let handle = Job::start(count, json!({ "total": 100_000 })).unwrap();
        let job = handles::get::<Job>(handle).unwrap();
        job.cancel();
        assert_eq!(finish(&job)[0], state::CANCELLED);
        assert_eq!(job.reply().unwrap().unwrap_err().code, "cancelled");
        handles::release(handle);
    }

    #[test]
    fn a_panic_becomes_a_failed_job() {
        let handle = Job::start(panics, json!({})).unwrap();
        let job = handles::get::<Job>(handle).unwrap();
        assert_eq!(finish(&job)[0], state::FAILED);
        let refusal = job.reply().unwrap().unwrap_err();
        assert_eq!(refusal.code, "native-panic");
        assert!(refusal.message.contains("as asked"));
        handles::release(handle);
    }

    #[test]
    fn an_unread_reply_releases_its_handles() {
        let handle = Job::start(leaks, json!({})).unwrap();
        let job = handles::get::<Job>(handle).unwrap();
        finish(&job);
        let reply: Value = serde_json::from_str(&job.reply().unwrap().unwrap()).unwrap();
        let tensor = reply["tensor"].as_u64().unwrap() as u32;
        assert!(handles::tensor(tensor).is_ok());
        handles::release(handle);
        drop(job);
        // The job's thread may hold the last reference for a moment.
        for _ in 0..200 {
            if handles::tensor(tensor).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the tensor of an unread reply is still alive");
    }
}
