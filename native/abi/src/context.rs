//! What a verb is given while it runs, and what it answers when it cannot do its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kinora_networks::tensor_file::TensorFileError;

use crate::jobs::Job;

/// Status codes of the exported functions.
pub mod status {
    /// The call did its work.
    pub const OK: i32 = 0;
    /// The request was refused before work started.
    pub const REFUSED: i32 = 1;
    /// The work started and failed.
    pub const FAILED: i32 = 2;
    /// The work stopped because it was asked to.
    pub const CANCELLED: i32 = 3;
    /// A handle is unknown, released, or of another kind.
    pub const BAD_HANDLE: i32 = 4;
    /// A caller-owned buffer is smaller than what goes into it.
    pub const BUFFER_TOO_SMALL: i32 = 5;
    /// Native code panicked; the panic was caught.
    pub const PANIC: i32 = 6;
    /// The job whose result is asked for has not ended.
    pub const RUNNING: i32 = 7;
}

/// Why a verb gave no reply: a stable code, one sentence, and the status that the exported function returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of the names of `KinoraErrorCode` in `ffi/errors.ts`.
    pub code: &'static str,
    /// What was wrong, where, and what is accepted instead.
    pub message: String,
    /// One of [`status`].
    pub status: i32,
}

impl Refusal {
    /// Bad input: `refused`.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with("refused", status::REFUSED, message)
    }

    /// A kind or configuration that is not known here: `unsupported`.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::with("unsupported", status::REFUSED, message)
    }

    /// A named file or folder is absent: `not-found`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::with("not-found", status::REFUSED, message)
    }

    /// A file that is not what it should be: `bad-file`.
    pub fn bad_file(message: impl Into<String>) -> Self {
        Self::with("bad-file", status::REFUSED, message)
    }

    /// Reading or writing failed: `io`.
    pub fn io(message: impl Into<String>) -> Self {
        Self::with("io", status::FAILED, message)
    }

    /// The work itself failed: `failed`.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::with("failed", status::FAILED, message)
    }

    /// Memory that the work needs could not be had: `out-of-memory`.
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self::with("out-of-memory", status::FAILED, message)
    }

    /// A handle that names nothing usable: `bad-handle`.
    pub fn bad_handle(message: impl Into<String>) -> Self {
        Self::with("bad-handle", status::BAD_HANDLE, message)
    }

    /// The work was asked to stop: `cancelled`.
    pub fn cancelled() -> Self {
        Self::with("cancelled", status::CANCELLED, "the job was cancelled")
    }

    /// A refusal with a code and status of the caller's choice.
    pub fn with(code: &'static str, status: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status }
    }

    /// The same refusal with `prefix: ` before its sentence.
    pub fn at(mut self, prefix: impl std::fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<candle_core::Error> for Refusal {
    fn from(error: candle_core::Error) -> Self {
        match error {
            candle_core::Error::Io(error) => error.into(),
            candle_core::Error::SafeTensor(error) => error.into(),
            // The debug form and a captured backtrace would follow the sentence; only the sentence is wanted.
            candle_core::Error::WithBacktrace { inner, .. } => (*inner).into(),
            candle_core::Error::WithPath { inner, path } => Refusal::from(*inner).at(path.display()),
            other => Self::failed(other.to_string()),
        }
    }
}

impl From<safetensors::SafeTensorError> for Refusal {
    fn from(error: safetensors::SafeTensorError) -> Self {
        match error {
            safetensors::SafeTensorError::IoError(error) => error.into(),
            other => Self::bad_file(format!("not a valid safetensors file ({other})")),
        }
    }
}

impl From<TensorFileError> for Refusal {
    fn from(error: TensorFileError) -> Self {
        match error {
            TensorFileError::Bad(message) => Self::bad_file(message),
            TensorFileError::Io { message, source } => Self::from(source).at(message),
            TensorFileError::Stopped => Self::cancelled(),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::not_found(error.to_string()),
            std::io::ErrorKind::OutOfMemory => Self::out_of_memory(error.to_string()),
            _ => Self::io(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("not the expected JSON ({error})"))
    }
}

/// What a verb is given while it runs: where to report progress, and whether to stop.
pub struct Context {
    cancel: Arc<AtomicBool>,
    job: Option<Arc<Job>>,
}

impl Context {
    /// The context of a short call: progress goes nowhere and nothing cancels it.
    pub fn call() -> Self {
        Self { cancel: Arc::new(AtomicBool::new(false)), job: None }
    }

    /// The context of a job.
    pub(crate) fn job(job: Arc<Job>) -> Self {
        Self { cancel: job.cancel_flag(), job: Some(job) }
    }

    /// Refuses with `cancelled` once the caller has asked the job to stop.
    pub fn check_cancelled(&self) -> Result<(), Refusal> {
        if self.cancel.load(Ordering::Relaxed) { Err(Refusal::cancelled()) } else { Ok(()) }
    }

    /// Reports that `step` of `total` steps are finished.
    pub fn progress(&self, step: u32, total: u32) {
        if let Some(job) = &self.job {
            job.progress(step, total);
        }
    }

    /// The flag behind [`Context::check_cancelled`], for code that runs on other threads.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }
}
