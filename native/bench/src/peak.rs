//! What the processor can do at best, on all threads: multiply-adds that touch registers only, and reading and writing
//! memory.

use rayon::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// GFLOP/s of f32 and bf16 and GB/s of memory; null for what this processor has no instruction for.
pub fn measure(seconds: Duration) -> Value {
    json!({
        "f32": rate(seconds, arithmetic::f32()),
        "bf16": rate(seconds, arithmetic::bf16()),
        "memory": copy(seconds),
    })
}

/// A piece of work, and the operations in it.
type Burst = (unsafe fn(), f64);

/// GFLOP/s of all threads together: each repeats the burst until the time is up, and the slowest one's end counts.
fn rate(seconds: Duration, burst: Option<Burst>) -> Option<f64> {
    let (burst, operations) = burst?;
    let start = Instant::now();
    let counts = rayon::broadcast(|_| {
        let mut count = 0u64;
        while start.elapsed() < seconds {
            // SAFETY: only bursts of instructions that this processor has are handed out.
            unsafe { burst() };
            count += 1;
        }
        count
    });
    Some(counts.iter().sum::<u64>() as f64 * operations / start.elapsed().as_secs_f64() / 1e9)
}

/// GB/s of `a[i] = b[i] + s * c[i]` over arrays far larger than any cache: 8 bytes read and 4 written a number, not
/// counting that a line is read before it is written.
fn copy(seconds: Duration) -> f64 {
    const LENGTH: usize = 1 << 25;
    const CHUNK: usize = 1 << 16;
    let (mut a, b, c) = (vec![0f32; LENGTH], vec![1f32; LENGTH], vec![2f32; LENGTH]);
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || start.elapsed() < seconds {
        let begin = Instant::now();
        a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).zip(c.par_chunks(CHUNK)).for_each(|((a, b), c)| {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = b + 3.0 * c;
            }
        });
        best = best.min(begin.elapsed().as_secs_f64());
        rounds += 1;
    }
    std::hint::black_box(&a);
    12.0 * LENGTH as f64 / best / 1e9
}

#[cfg(target_arch = "x86_64")]
mod arithmetic {
    use super::Burst;
    use kinora_kernels::{Isa, isa};
    use std::arch::asm;

    /// Repetitions of the loop in a burst.
    const TURNS: usize = 100_000;
    /// Independent sums: more than the latency times the number of units.
    const SUMS: usize = 12;

    /// A burst of twelve independent multiply-adds a turn. `zero` clears a register first: whatever stood there might be
    /// a number that is slow to compute with.
    macro_rules! burst {
        ($name:ident, $register:literal, $instruction:literal, $zero:literal) => {
            unsafe fn $name() {
                // SAFETY: registers alone are changed, and all of them are named.
                unsafe {
                    asm!(
                        concat!($zero, " ", $register, "0, ", $register, "0, ", $register, "0"),
                        concat!($zero, " ", $register, "1, ", $register, "1, ", $register, "1"),
                        concat!($zero, " ", $register, "2, ", $register, "2, ", $register, "2"),
                        concat!($zero, " ", $register, "3, ", $register, "3, ", $register, "3"),
                        concat!($zero, " ", $register, "4, ", $register, "4, ", $register, "4"),
                        concat!($zero, " ", $register, "5, ", $register, "5, ", $register, "5"),
                        concat!($zero, " ", $register, "6, ", $register, "6, ", $register, "6"),
                        concat!($zero, " ", $register, "7, ", $register, "7, ", $register, "7"),
                        concat!($zero, " ", $register, "8, ", $register, "8, ", $register, "8"),
                        concat!($zero, " ", $register, "9, ", $register, "9, ", $register, "9"),
                        concat!($zero, " ", $register, "10, ", $register, "10, ", $register, "10"),
                        concat!($zero, " ", $register, "11, ", $register, "11, ", $register, "11"),
                        concat!($zero, " ", $register, "12, ", $register, "12, ", $register, "12"),
                        concat!($zero, " ", $register, "13, ", $register, "13, ", $register, "13"),
                        "2:",
                        concat!($instruction, " ", $register, "0, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "1, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "2, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "3, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "4, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "5, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "6, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "7, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "8, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "9, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "10, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "11, ", $register, "12, ", $register, "13"),
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) TURNS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, options(nomem, nostack),
                    );
                }
            }
        };
    }

    burst!(fma_ymm, "ymm", "vfmadd231ps", "vxorps");
    burst!(fma_zmm, "zmm", "vfmadd231ps", "vpxord");
    burst!(dot_zmm, "zmm", "vdpbf16ps", "vpxord");

    /// Four sums of 16 x 16 from four tiles, as a product of 32 x 32 uses them.
    unsafe fn tiles() {
        #[repr(align(64))]
        struct Shape([u8; 64]);
        let mut shape = Shape([0; 64]);
        shape.0[0] = 1;
        for tile in 0..8 {
            shape.0[16 + 2 * tile] = 64;
            shape.0[48 + tile] = 16;
        }
        // SAFETY: the path is AMX only after the system gave permission; the tiles are released again.
        unsafe {
            asm!(
                "ldtilecfg [{shape}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {turns}",
                "jnz 2b",
                "tilerelease",
                shape = in(reg) shape.0.as_ptr(),
                turns = inout(reg) TURNS => _,
                options(nostack),
            );
        }
    }

    fn vectors(burst: unsafe fn(), lanes: usize, each: usize) -> Option<Burst> {
        Some((burst, (TURNS * SUMS * lanes * 2 * each) as f64))
    }

    pub fn f32() -> Option<Burst> {
        match isa() {
            Isa::Portable => None,
            Isa::Avx2 => vectors(fma_ymm, 8, 1),
            _ => vectors(fma_zmm, 16, 1),
        }
    }

    pub fn bf16() -> Option<Burst> {
        match isa() {
            Isa::AmxBf16 => Some((tiles, (TURNS * 4 * 2 * 16 * 16 * 32) as f64)),
            Isa::Avx512Bf16 => vectors(dot_zmm, 16, 2),
            _ => None,
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arithmetic {
    use super::Burst;

    pub fn f32() -> Option<Burst> {
        None
    }

    pub fn bf16() -> Option<Burst> {
        None
    }
}
