//! Keeps candle's own elementwise operations on the thread that calls them.

use std::sync::Once;

/// Makes candle compute on the calling thread. Networks call it; a library that uses candle before it makes a network
/// calls it first, because candle decides once, at its first large operation.
///
/// Left alone, candle 0.11 splits additions and the like over one pool for the whole process: callers queue at a lock,
/// wait for each other spinning, and its threads go on spinning afterwards. Workers that train side by side then stand
/// in each other's way. What is worth splitting has operations of its own here, on rayon.
///
/// A `CANDLE_NUM_THREADS` in the environment is left as it is; without one it is set to 1.
pub fn keep_candle_on_the_calling_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
            // SAFETY: candle offers no other way. The variable is added once and never removed or changed, which
            // moves no other entry of the environment, and the C library keeps the old list for those who read it.
            unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
        }
        candle_core::utils::barrier_pool();
    });
}
