//! The C ABI of Kinora: handles, jobs and errors.
//!
//! Requests and replies are JSON bytes, bulk data goes through caller-owned buffers, everything else is a `u32` or a
//! status (see [`context::status`]). No pointer is kept after a call returns, none is handed out, no callback is taken.
//! Every function may be called from any thread, catches panics, and writes why it failed into the call's own reply
//! buffer as `{"code", "message"}`. A reply that does not fit gives status 5 and its length in `reply_len`.

pub mod context;
pub mod fields;
pub mod handles;
pub mod jobs;
pub mod verbs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use context::{Context, Refusal, status};
use jobs::Job;

/// Of this library alone: the program that loads it keeps its own.
#[global_allocator]
static ALLOCATOR: kinora_kernels::buffers::KeptBuffers = kinora_kernels::buffers::KeptBuffers;

/// The version of this ABI; the TypeScript side refuses another.
pub const ABI_VERSION: u32 = 1;

/// The longest request that is read.
const MAX_REQUEST: usize = 64 << 20;

/// A caller-owned reply buffer.
struct Reply {
    bytes: *mut u8,
    capacity: u32,
    len: *mut u32,
}

impl Reply {
    /// Copies a reply out; `false` when it does not fit.
    ///
    /// # Safety
    /// The pointers are null or valid for writes, as the exported functions ask.
    unsafe fn write(&self, text: &str) -> bool {
        if !self.len.is_null() {
            // SAFETY: not null, and valid for one u32 by the caller's promise; it need not be aligned.
            unsafe { self.len.write_unaligned(text.len().try_into().unwrap_or(u32::MAX)) };
        }
        if self.bytes.is_null() || text.len() > self.capacity as usize {
            return false;
        }
        // SAFETY: `capacity` writable bytes by the caller's promise, and the text is no longer.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.bytes, text.len()) };
        true
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    json!({ "code": refusal.code, "message": refusal.message }).to_string()
}

/// Runs `work` behind a panic boundary and writes its reply or refusal.
///
/// # Safety
/// As [`Reply::write`].
unsafe fn answer(reply: &Reply, work: impl FnOnce() -> Result<String, Refusal>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(jobs::panicked(&*panic)));
    let (status, text) = match result {
        Ok(text) => (status::OK, text),
        Err(refusal) => (refusal.status, refusal_text(&refusal)),
    };
    // SAFETY: the caller's promise is passed on.
    if unsafe { reply.write(&text) } || status != status::OK { status } else { status::BUFFER_TOO_SMALL }
}

/// Views `len` bytes; null is accepted for none.
///
/// # Safety
/// `bytes` is null or points at `len` readable bytes that nothing writes during the call.
unsafe fn view<'a>(bytes: *const u8, len: u32, what: &str) -> Result<&'a [u8], Refusal> {
    if bytes.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(Refusal::new(format!("{what} is a null pointer"))) };
    }
    // SAFETY: not null, `len` bytes by the caller's promise, u8 has no alignment.
    Ok(unsafe { std::slice::from_raw_parts(bytes, len as usize) })
}

fn parse(request: &[u8]) -> Result<Value, Refusal> {
    if request.len() > MAX_REQUEST {
        return Err(Refusal::new(format!("the request is longer than {MAX_REQUEST} bytes")));
    }
    serde_json::from_slice(request).map_err(|error| Refusal::new(format!("the request is not valid JSON ({error})")))
}

/// The version of this ABI; whoever loads the library calls this first.
#[unsafe(no_mangle)]
pub extern "C" fn kinora_abi_version() -> u32 {
    kinora_kernels::keep_candle_on_the_calling_thread();
    ABI_VERSION
}

/// Runs a short verb to its end on the calling thread: `{"verb": "tensor.noise", ...}` in, JSON out.
///
/// # Safety
/// `request` points at `len` readable bytes, `reply` at `cap` writable bytes, `reply_len` at one writable `u32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_call(
    request: *const u8,
    len: u32,
    reply: *mut u8,
    cap: u32,
    reply_len: *mut u32,
) -> i32 {
    let reply = Reply { bytes: reply, capacity: cap, len: reply_len };
    let mut made = Vec::new();
    // SAFETY: the caller's promises are passed on.
    let code = unsafe {
        answer(&reply, || {
            let request = parse(view(request, len, "request")?)?;
            let (result, handles) = jobs::run(verbs::of(&request)?, &Context::call(), &request);
            made = handles;
            result
        })
    };
    if code != status::OK {
        // The caller could not learn of them.
        handles::release_all(&made);
    }
    code
}

/// Starts any verb on a native thread of its own; replies `{"job": handle}`. The verb's own refusals come from
/// [`kinora_job_result`], only an unknown verb or unreadable request is refused here.
///
/// # Safety
/// As [`kinora_call`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_job_start(
    request: *const u8,
    len: u32,
    reply: *mut u8,
    cap: u32,
    reply_len: *mut u32,
) -> i32 {
    let reply = Reply { bytes: reply, capacity: cap, len: reply_len };
    let mut started = 0;
    // SAFETY: the caller's promises are passed on.
    let code = unsafe {
        answer(&reply, || {
            let request = parse(view(request, len, "request")?)?;
            started = Job::start(verbs::of(&request)?, request)?;
            Ok(json!({ "job": started }).to_string())
        })
    };
    if code != status::OK && started != 0 {
        if let Ok(job) = handles::get::<Job>(started) {
            job.cancel();
        }
        handles::release(started);
    }
    code
}

/// Waits until the job's version differs from `seen_version`, the job ends, or `timeout_ms` pass, and writes
/// `{state, step, total, elapsed_ms, version, 0}` to `out`. An ended job answers at once.
///
/// # Safety
/// `out` points at six writable `u32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_job_wait(job: u32, seen_version: u32, timeout_ms: u32, out: *mut u32) -> i32 {
    catch_unwind(AssertUnwindSafe(|| {
        if out.is_null() {
            return status::REFUSED;
        }
        match handles::get::<Job>(job) {
            Ok(job) => {
                let reading = job.wait(seen_version, Duration::from_millis(timeout_ms.into()));
                // SAFETY: not null, six u32 by the caller's promise; it need not be aligned.
                unsafe { out.cast::<[u32; 6]>().write_unaligned(reading) };
                status::OK
            }
            Err(refusal) => refusal.status,
        }
    }))
    .unwrap_or(status::PANIC)
}

/// Asks a job to stop. It ends as cancelled at its next check, or as done when it finishes first.
#[unsafe(no_mangle)]
pub extern "C" fn kinora_job_cancel(job: u32) -> i32 {
    catch_unwind(|| match handles::get::<Job>(job) {
        Ok(job) => {
            job.cancel();
            status::OK
        }
        Err(refusal) => refusal.status,
    })
    .unwrap_or(status::PANIC)
}

/// Writes the reply of an ended job, as often as asked for; status 7 while it runs.
///
/// # Safety
/// `reply` points at `cap` writable bytes, `reply_len` at one writable `u32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_job_result(job: u32, reply: *mut u8, cap: u32, reply_len: *mut u32) -> i32 {
    let reply = Reply { bytes: reply, capacity: cap, len: reply_len };
    let mut ended = None;
    // SAFETY: the caller's promises are passed on.
    let code = unsafe {
        answer(&reply, || {
            let job = handles::get::<Job>(job)?;
            let text = job
                .reply()
                .unwrap_or_else(|| Err(Refusal::with("failed", status::RUNNING, "the job is still running")))?;
            ended = Some(job);
            Ok(text)
        })
    };
    if let (status::OK, Some(job)) = (code, ended) {
        job.claim();
    }
    code
}

/// Makes a tensor from little-endian f32 bytes, row-major. NaN and infinities are taken as they are.
///
/// # Safety
/// `shape` points at `rank` readable `u32`, `bytes` at `len` readable bytes, `out_handle` and `reply_len` at one
/// writable `u32` each, `reply` at `cap` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_tensor_create(
    shape: *const u32,
    rank: u32,
    bytes: *const u8,
    len: u32,
    out_handle: *mut u32,
    reply: *mut u8,
    cap: u32,
    reply_len: *mut u32,
) -> i32 {
    let reply = Reply { bytes: reply, capacity: cap, len: reply_len };
    // SAFETY: the caller's promises are passed on.
    unsafe {
        answer(&reply, || {
            if out_handle.is_null() {
                return Err(Refusal::new("out_handle is a null pointer"));
            }
            if rank as usize > fields::MAX_RANK {
                return Err(Refusal::new(format!("shape must have 1 to {} axes, not {rank}", fields::MAX_RANK)));
            }
            let shape: Vec<usize> = view(shape.cast(), rank * 4, "shape")?
                .chunks_exact(4)
                .map(|n| u32::from_ne_bytes([n[0], n[1], n[2], n[3]]) as usize)
                .collect();
            let count = fields::check_shape(&shape).map_err(|why| Refusal::new(format!("shape {why}")))?;
            let bytes = view(bytes, len, "bytes")?;
            if bytes.len() != count * 4 {
                return Err(Refusal::new(format!(
                    "shape {shape:?} needs {} bytes of f32, not {}",
                    count * 4,
                    bytes.len()
                )));
            }
            let mut values = memory(count)?;
            values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            let handle = handles::insert(Tensor::from_vec(values, shape, &Device::Cpu)?);
            // SAFETY: checked for null above; it need not be aligned.
            out_handle.write_unaligned(handle);
            Ok(json!({ "tensor": handle }).to_string())
        })
    }
}

/// Copies a tensor out as little-endian f32, row-major; `len` is exactly four bytes a number.
///
/// # Safety
/// `into` points at `len` writable bytes, `reply` at `cap` writable bytes, `reply_len` at one writable `u32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kinora_tensor_read(
    handle: u32,
    into: *mut u8,
    len: u32,
    reply: *mut u8,
    cap: u32,
    reply_len: *mut u32,
) -> i32 {
    let reply = Reply { bytes: reply, capacity: cap, len: reply_len };
    // SAFETY: the caller's promises are passed on.
    unsafe {
        answer(&reply, || {
            let tensor = handles::tensor(handle)?;
            let needed = tensor.elem_count() * 4;
            if into.is_null() || (len as usize) < needed {
                let message = format!("the buffer holds {len} bytes, the tensor {needed}");
                return Err(Refusal::with("refused", status::BUFFER_TOO_SMALL, message));
            }
            if len as usize > needed {
                return Err(Refusal::new(format!("the buffer must hold exactly {needed} bytes, not {len}")));
            }
            let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
            let (storage, layout) = tensor.storage_and_layout();
            let candle_core::Storage::Cpu(storage) = &*storage else {
                return Err(Refusal::failed("the tensor is not in main memory"));
            };
            let values = &storage.as_slice::<f32>()?[layout.start_offset()..][..needed / 4];
            // SAFETY: `len` writable bytes by the caller's promise; f32 may be read as bytes.
            let out = std::slice::from_raw_parts_mut(into, needed);
            copy_le(values, out);
            Ok("{}".into())
        })
    }
}

#[cfg(target_endian = "little")]
fn copy_le(values: &[f32], out: &mut [u8]) {
    // SAFETY: f32 has no padding, and every byte pattern is a u8.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), values.len() * 4) };
    out.copy_from_slice(bytes);
}

#[cfg(not(target_endian = "little"))]
fn copy_le(values: &[f32], out: &mut [u8]) {
    for (to, value) in out.chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// An empty vector with room for `count` numbers, refused (not aborted) when the memory cannot be had.
pub(crate) fn memory(count: usize) -> Result<Vec<f32>, Refusal> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(count)
        .map_err(|_| Refusal::out_of_memory(format!("cannot allocate {count} numbers ({} bytes)", count * 4)))?;
    Ok(values)
}

/// Releases any handle; one that names nothing is left alone. A running job is asked to stop.
#[unsafe(no_mangle)]
pub extern "C" fn kinora_release(handle: u32) -> i32 {
    catch_unwind(|| {
        if let Ok(job) = handles::get::<Job>(handle) {
            job.cancel();
        }
        handles::release(handle);
        status::OK
    })
    .unwrap_or(status::PANIC)
}
