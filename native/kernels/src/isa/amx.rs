//! AMX bf16 tiles. The intrinsics are not stable; the assembler is.
//!
//! Tile registers 0..3 hold sums, 4 and 5 rows, 6 and 7 columns, each 16 rows of 64 bytes.

use super::{LINE, PANEL, PANEL_BLOCK, Tile, Tiles, WIDE, avx512};
use std::arch::asm;
use std::sync::OnceLock;

const ROWS: usize = 32;

pub(super) fn tiles() -> Tiles {
    let convert = avx512::convert_bf16;
    Tiles { rows: ROWS, tile: Tile::Packed(tile), wide, convert, ..avx512::tiles() }
}

/// Whether the CPU has AMX bf16, the kernel lets this process use it, and a product comes out right.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| cfg!(target_os = "linux") && has_amx_bf16() && permitted() && multiplies())
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

/// A product of ones: every sum must be the length of k.
fn multiplies() -> bool {
    let one = u32::from(super::to_bf16(1.0)) * 0x1_0001;
    let (a, b) = (vec![one; 2 * ROWS * LINE / 4], vec![one; 2 * PANEL_BLOCK / 4]);
    let mut c = vec![0f32; ROWS * PANEL];
    unsafe { tile(2, a.as_ptr().cast(), b.as_ptr().cast(), c.as_mut_ptr()) };
    c.iter().all(|&sum| sum == 64.0)
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

unsafe fn tile(blocks: usize, a: *const u8, b: *const u8, c: *mut f32) {
    let _configured = Configured::new();
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{b} + {panel}]",
            "tileloadd tmm4, [{a} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {line} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b} + {panel} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            "tilestored [{c} + {panel}], tmm0",
            "tilestored [{c} + {panel} + 64], tmm1",
            "tilestored [{c} + {panel} + 2048], tmm2",
            "tilestored [{c} + {panel} + 2112], tmm3",
            a = inout(reg) a => _, b = inout(reg) b => _, c = in(reg) c,
            line = in(reg) LINE, panel = in(reg) 4 * PANEL, n = inout(reg) blocks => _,
        );
    }
}

/// The lines are turned (16 pairs x 16 rows to 16 rows x 16 pairs) because a tile's rows run along k.
unsafe fn wide(blocks: usize, lines: *const *const u8, b: *const u8, c: *mut f32) {
    let mut turned = vec![[0u32; WIDE * 16]; blocks];
    for (block, turned) in turned.iter_mut().enumerate() {
        for pair in 0..16 {
            let line: &[u32; WIDE] = unsafe { &*(*lines.add(block * 16 + pair)).cast() };
            for (row, value) in line.iter().enumerate() {
                turned[row * 16 + pair] = *value;
            }
        }
    }
    let _configured = Configured::new();
    unsafe {
        asm!(
            "tileloadd tmm0, [{c} + {panel}]", "tileloadd tmm1, [{c} + {panel} + 64]",
            "2:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{b} + {panel}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {panel} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 1024",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            "tilestored [{c} + {panel}], tmm0",
            "tilestored [{c} + {panel} + 64], tmm1",
            a = inout(reg) turned.as_ptr() => _, b = inout(reg) b => _, c = in(reg) c,
            line = in(reg) LINE, panel = in(reg) 4 * PANEL, n = inout(reg) blocks => _,
        );
    }
}
