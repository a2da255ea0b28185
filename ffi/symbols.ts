/**
 * The C ABI, one entry an exported function; `native/abi/src/lib.rs` defines it.
 *
 * A request and a reply are JSON in UTF-8. A function returns 0, or a status whose reason is in the reply as
 * `{"code", "message"}`.
 *
 * @module
 */

/** The ABI this package speaks; checked right after loading. */
export const ABI_VERSION = 1;

/** Statuses that are handled by number. */
export const STATUS = { ok: 0, badHandle: 4, bufferTooSmall: 5 } as const;

const CALL = [
  "buffer", // const uint8_t *request
  "u32", // uint32_t len
  "buffer", // uint8_t *reply
  "u32", // uint32_t cap
  "buffer", // uint32_t *reply_len
] as const;

const TENSOR_CREATE = [
  "buffer", // const uint32_t *shape
  "u32", // uint32_t rank
  "buffer", // const uint8_t *bytes: f32, little-endian
  "u32", // uint32_t len
  "buffer", // uint32_t *out_handle
  "buffer", // uint8_t *reply
  "u32", // uint32_t cap
  "buffer", // uint32_t *reply_len
] as const;

const TENSOR_READ = [
  "u32", // uint32_t handle
  "buffer", // uint8_t *into
  "u32", // uint32_t len
  "buffer", // uint8_t *reply
  "u32", // uint32_t cap
  "buffer", // uint32_t *reply_len
] as const;

/** The symbols; those that end with `_async` are the same functions, run on a thread of Deno's pool. */
export const symbols = {
  // uint32_t kinora_abi_version(void)
  kinora_abi_version: { parameters: [], result: "u32" },
  // int32_t kinora_call(...): runs a short verb to its end
  kinora_call: { parameters: CALL, result: "i32" },
  kinora_call_async: { name: "kinora_call", parameters: CALL, result: "i32", nonblocking: true },
  // int32_t kinora_job_start(...): starts a verb on a native thread of its own
  kinora_job_start: { parameters: CALL, result: "i32" },
  // int32_t kinora_job_wait(...): waits for a change
  kinora_job_wait: {
    parameters: [
      "u32", // uint32_t job
      "u32", // uint32_t seen_version
      "u32", // uint32_t timeout_ms
      "buffer", // uint32_t out[6]: state, step, total, elapsed_ms, version, 0
    ],
    result: "i32",
    nonblocking: true,
  },
  // int32_t kinora_job_cancel(uint32_t job)
  kinora_job_cancel: { parameters: ["u32"], result: "i32" },
  // int32_t kinora_job_result(...): the reply of an ended job
  kinora_job_result: {
    parameters: [
      "u32", // uint32_t job
      "buffer", // uint8_t *reply
      "u32", // uint32_t cap
      "buffer", // uint32_t *reply_len
    ],
    result: "i32",
  },
  // int32_t kinora_tensor_create(...)
  kinora_tensor_create: { parameters: TENSOR_CREATE, result: "i32" },
  kinora_tensor_create_async: {
    name: "kinora_tensor_create",
    parameters: TENSOR_CREATE,
    result: "i32",
    nonblocking: true,
  },
  // int32_t kinora_tensor_read(...)
  kinora_tensor_read: { parameters: TENSOR_READ, result: "i32" },
  kinora_tensor_read_async: { name: "kinora_tensor_read", parameters: TENSOR_READ, result: "i32", nonblocking: true },
  // int32_t kinora_release(uint32_t handle)
  kinora_release: { parameters: ["u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;
