//! AMX bf16 tiles. The intrinsics are not stable; the assembler is.
//!
//! Tile registers 0 to 3 hold sums, 4 and 5 rows, 6 and 7 columns, each 16 rows of 64 bytes.

#[cfg(all(test, target_os = "linux"))]
mod emulated;

use super::{Block, BlockTile, LINE, PANEL, PANEL_BLOCK};
use std::arch::asm;
use std::sync::OnceLock;

/// Rows of a tile.
const ROWS: usize = 16;

/// Runs `work` with tiles configured on this thread.
pub(super) fn configured<R>(work: impl FnOnce(BlockTile) -> R) -> R {
    let _configured = Configured::new();
    work(block)
}

/// Whether the CPU has AMX bf16, the kernel lets this process use it, and a product comes out right.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| cfg!(target_os = "linux") && has_amx_bf16() && permitted() && multiplies())
}

/// Whether its code runs here, if by emulation.
#[cfg(test)]
pub(super) fn runs() -> bool {
    #[cfg(target_os = "linux")]
    if !usable() && std::arch::is_x86_feature_detected!("avx512bf16") {
        emulated::install();
        assert!(multiplies());
        return true;
    }
    usable()
}

fn has_amx_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    features & (1 << 22) != 0 && features & (1 << 24) != 0
}

/// Asks the kernel for the tile state: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, for the whole process.
fn permitted() -> bool {
    let status: i64;
    unsafe {
        asm!("syscall", inout("rax") 158i64 => status, in("rdi") 0x1023, in("rsi") 18, out("rcx") _, out("r11") _);
    }
    status == 0
}

/// A product of ones, begun with ones: every sum must be the length of k and one.
fn multiplies() -> bool {
    let pair = u32::from(super::to_bf16(1.0)) * 0x1_0001;
    let (a, b) = (vec![pair; 2 * 2 * ROWS * LINE / 4], vec![pair; 2 * PANEL_BLOCK / 4]);
    let (offsets, start, mut c) = ([0, LINE], [1f32; PANEL], vec![0f32; 2 * ROWS * PANEL]);
    let (a, halves) = (a.as_ptr().cast::<u8>(), c.split_at_mut(ROWS * PANEL));
    let block = Block {
        steps: 2,
        offsets: offsets.as_ptr(),
        a: [a, unsafe { a.add(ROWS * 2 * LINE) }],
        apart: 2 * LINE,
        b: b.as_ptr().cast(),
        start: [start.as_ptr(); 2],
        start_apart: 0,
        c: [halves.0.as_mut_ptr(), halves.1.as_mut_ptr()],
        stride: PANEL,
    };
    configured(|tile| unsafe { tile(&block) });
    c.iter().all(|&sum| sum == 65.0)
}

/// Eight tiles of 16 rows of 64 bytes; released on drop so that the next context switch is cheap.
struct Configured;

impl Configured {
    fn new() -> Self {
        #[repr(align(64))]
        struct Palette([u8; 64]);
        let mut palette = Palette([0; 64]);
        palette.0[0] = 1;
        for tile in 0..8 {
            palette.0[16 + 2 * tile] = 64;
            palette.0[48 + tile] = 16;
        }
        unsafe { asm!("ldtilecfg [{}]", in(reg) palette.0.as_ptr()) };
        Self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        unsafe { asm!("tilerelease") };
    }
}

unsafe fn block(block: &Block) {
    let &Block { steps, offsets, a, apart, b, start, start_apart, c, stride } = block;
    unsafe {
        asm!(
            "tileloadd tmm0, [{first} + {apart}]", "tileloadd tmm1, [{first} + {apart} + 64]",
            "tileloadd tmm2, [{second} + {apart}]", "tileloadd tmm3, [{second} + {apart} + 64]",
            first = in(reg) start[0], second = in(reg) start[1], apart = in(reg) 4 * start_apart,
        );
        asm!(
            "2:",
            "mov {at}, [{offsets}]",
            "tileloadd tmm6, [{b} + {panel}]",
            "lea {row}, [{first} + {at}]",
            "tileloadd tmm4, [{row} + {apart}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "lea {row}, [{second} + {at}]",
            "tileloadd tmm5, [{row} + {apart}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b} + {panel} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {b}, 2048",
            "add {offsets}, 8",
            "dec {steps}",
            "jnz 2b",
            at = out(reg) _, row = out(reg) _, offsets = inout(reg) offsets => _, first = in(reg) a[0], second = in(reg) a[1],
            apart = in(reg) apart, b = inout(reg) b => _, panel = in(reg) 4 * PANEL, steps = inout(reg) steps => _,
        );
        asm!(
            "tilestored [{first} + {apart}], tmm0", "tilestored [{first} + {apart} + 64], tmm1",
            "tilestored [{second} + {apart}], tmm2", "tilestored [{second} + {apart} + 64], tmm3",
            first = in(reg) c[0], second = in(reg) c[1], apart = in(reg) 4 * stride,
        );
    }
}
