//! Run-time choice of the instruction set, and the matrix-product tiles written for each.
//!
//! `KINORA_ISA` forces a path (`portable`, `avx2`, `avx512`, `avx512-bf16`, `amx-bf16`, `neon`, `neon-bf16`); one that
//! this machine cannot run is ignored.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Columns in a panel of packed weights, on every path.
pub const PANEL: usize = 32;
/// Bytes of one packed line: 16 f32 or 32 bf16 values of k.
pub const LINE: usize = 64;
/// Bytes of a panel for one line of k.
pub const PANEL_BLOCK: usize = 2048;

/// An instruction set with its own tiles; those of a processor from the slowest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: the reference.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F/BW/VL/DQ.
    Avx512,
    /// AVX-512 with the bf16 dot product.
    Avx512Bf16,
    /// AMX bf16 tiles; f32 work is done by AVX-512.
    AmxBf16,
    /// NEON, which every aarch64 has.
    Neon,
    /// NEON with the bf16 dot product.
    NeonBf16,
}

impl Isa {
    /// Every path of this architecture, slowest first.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::AmxBf16];
    /// Every path of this architecture, slowest first.
    #[cfg(target_arch = "aarch64")]
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Neon, Isa::NeonBf16];
    /// The only path of this architecture.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const ALL: [Isa; 1] = [Isa::Portable];

    /// The name used by `KINORA_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::AmxBf16 => "amx-bf16",
            Isa::Neon => "neon",
            Isa::NeonBf16 => "neon-bf16",
        }
    }

    /// Whether this machine runs this path. AMX is believed only after a product of it came out right.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = || {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            };
            match self {
                Isa::Portable => true,
                Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                Isa::Avx512 => avx512(),
                Isa::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
                Isa::AmxBf16 => avx512() && is_x86_feature_detected!("avx512bf16") && amx::usable(),
                Isa::Neon | Isa::NeonBf16 => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Isa::Portable | Isa::Neon => true,
            Isa::NeonBf16 => std::arch::is_aarch64_feature_detected!("bf16"),
            _ => false,
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Isa::Portable
        }
    }

    /// The paths whose code runs on this machine, AMX by emulation where it has to; others are named past the harness, which
    /// hides output.
    #[cfg(test)]
    pub(crate) fn tested() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| {
            #[cfg(target_arch = "x86_64")]
            if *isa == Isa::AmxBf16 && amx::runs() {
                return true;
            }
            if !isa.available() {
                let message = format!("not tested: this machine has no {}\n", isa.name());
                let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
            }
            isa.available()
        })
    }

    /// Whether this path multiplies bf16 by instructions of its own. Elsewhere bf16 is rounded numbers in f32.
    pub fn fast_bf16(self) -> bool {
        matches!(self, Isa::Avx512Bf16 | Isa::AmxBf16 | Isa::NeonBf16)
    }

    /// Whether this path is worth taking unasked. Some processors have the bf16 dot product at a quarter of the speed that
    /// others have, and are faster without it.
    fn worthwhile(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Isa::Avx512Bf16 {
            return avx512::fast_dot_product();
        }
        #[cfg(target_arch = "aarch64")]
        if self == Isa::NeonBf16 {
            return neon::fast_dot_product();
        }
        true
    }
}

/// The path in use, chosen once.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let forced = std::env::var("KINORA_ISA").ok();
        let forced = forced.and_then(|name| Isa::ALL.into_iter().find(|isa| isa.name() == name && isa.available()));
        let best = || Isa::ALL.into_iter().rev().find(|isa| isa.available() && isa.worthwhile());
        forced.unwrap_or_else(|| best().unwrap_or(Isa::Portable))
    })
}

/// Whether the bf16 dot product does at least a third more multiplications a second than the f32 multiply-add: measured,
/// for a few microseconds, because processors that report it differ fourfold. A burst has as many instructions of one as of the
/// other. The best of several turns counts, so that an interruption does not decide.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn dot_product_pays(multiply_adds: unsafe fn(), dot_products: unsafe fn()) -> bool {
    let quickest = |burst: unsafe fn()| {
        let turn = |_| {
            let start = std::time::Instant::now();
            // SAFETY: the caller's processor has the instructions.
            unsafe { burst() };
            start.elapsed()
        };
        (0..16).map(turn).min().unwrap_or_default()
    };
    2 * quickest(multiply_adds) > quickest(dot_products) + quickest(dot_products) / 3
}

/// How operands are stored for a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 16 f32 a line.
    F32,
    /// 16 f32 a line, rounded to bf16: what is multiplied where there are no tiles for bf16.
    Rounded,
    /// 32 bf16 a line, rounded to nearest even.
    Bf16,
    /// The same for what rounding makes and for what it leaves: three products of bf16.
    Split,
}

impl Format {
    /// Whether it is multiplied in blocks of bf16.
    pub fn in_blocks(self) -> bool {
        matches!(self, Format::Bf16 | Format::Split)
    }

    /// Values of k in a line.
    pub fn lane(self) -> usize {
        match self {
            Format::F32 | Format::Rounded => 16,
            Format::Bf16 | Format::Split => 32,
        }
    }
}

/// `c[row][32] = sum over taps and k of a * b`, plus the 32 values of `bias` unless it is null.
///
/// `rows` holds, for each tap, a pointer for each of the tile's rows to `steps` of k; `next`,
/// unless it is null, as many for the next tile, whose rows of `c` follow: both may be asked for meanwhile. `b` holds two [`LINE`]s
/// for each step of each tap. Rows of `c` are `stride` values apart.
pub(crate) type GatheredTile = unsafe fn(
    taps: usize,
    steps: usize,
    rows: *const *const u8,
    next: *const *const u8,
    b: *const u8,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
);

/// A block of bf16: `c[32][32] = start + sum over steps of a * b`, where a step is 32 of k.
pub(crate) struct Block {
    pub steps: usize,
    /// For each step, how many bytes behind the first step's place its [`LINE`] of a row lies.
    pub offsets: *const usize,
    /// The first and the seventeenth row.
    pub a: [*const u8; 2],
    /// Bytes from one row to the next, in either half.
    pub apart: usize,
    /// One [`PANEL_BLOCK`] a step.
    pub b: *const u8,
    /// What the sums begin with, a row in each half.
    pub start: [*const f32; 2],
    /// Values from one row of `start` to the next; 0 where all are the same.
    pub start_apart: usize,
    /// Where the sums go, which may be `start`.
    pub c: [*mut f32; 2],
    /// Values from one row of `c` to the next.
    pub stride: usize,
}

/// Multiplies a block.
pub(crate) type BlockTile = unsafe fn(&Block);

/// Converts `lines` lines of f32 at `from` to packed lines.
pub(crate) type Convert = unsafe fn(lines: usize, from: *const f32, to: *mut u8);

/// `to[i * apart + column] = columns[column][i]` for `count` of i; 0 for a column that is null.
pub(crate) type Turn = unsafe fn(columns: &[*const f32; 16], count: usize, to: *mut f32, apart: usize);

/// `c[row][32] += sum over k of lines[k][first + row] * b[k][32]` for `steps` of k and one of [`SUMMING_ROWS`]. The sum begins at zero.
/// Lines of `b` are `apart` values apart, rows of `c` `stride`.
pub(crate) type SummingTile = unsafe fn(
    first: usize,
    rows: usize,
    steps: usize,
    lines: *const *const f32,
    b: *const f32,
    apart: usize,
    c: *mut f32,
    stride: usize,
);
/// Rows that a [`SummingTile`] may have.
pub(crate) const SUMMING_ROWS: [usize; 3] = [12, 8, 4];

/// The tiles of one path for what is multiplied in f32.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    /// Rows of the tile.
    pub rows: usize,
    pub tile: GatheredTile,
    pub summing: SummingTile,
    pub convert: Convert,
    pub turn: Turn,
}

/// The tiles that `isa` has, for numbers as they are or rounded.
pub(crate) fn tiles(isa: Isa, format: Format) -> Tiles {
    let tiles = match isa {
        Isa::Portable => portable::tiles(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::tiles(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::AmxBf16 => avx512::tiles(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonBf16 => neon::tiles(),
        _ => unreachable!("{} is not of this architecture", isa.name()),
    };
    match format {
        Format::Rounded => Tiles { convert: portable::convert_rounding, ..tiles },
        _ => tiles,
    }
}

/// Runs `work` with the tile for blocks of bf16, where it is [fast](Isa::fast_bf16).
pub(crate) fn multiplying<R>(isa: Isa, work: impl FnOnce(BlockTile) -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::AmxBf16 => amx::configured(work),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => work(avx512::block),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonBf16 => work(neon::block),
        _ => unreachable!("{} has no tile for bf16", isa.name()),
    }
}

/// What else has to be done to bf16 where there are tiles for it.
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{convert_bf16, convert_rows, copy_present, interleave_bf16, pair_rows, stream_rows, turn_bf16};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{convert_bf16, convert_rows, copy_present, interleave_bf16, pair_rows, transposed, turn_bf16};
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable::stream_rows;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use portable::{convert_bf16, convert_rows, copy_present, interleave_bf16, pair_rows, turn_bf16};

/// f32 to bf16, to nearest even.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    // Wrapping, and both forms at hand, so that a loop of it becomes vector code.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    (if value.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16
}

/// bf16 to f32, exact.
#[inline(always)]
pub(crate) fn from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}
