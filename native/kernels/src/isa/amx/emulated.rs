//! The instructions of AMX by a signal handler, so that its code is tested on processors without them.

use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX, REG_RCX};
use libc::{REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP};
use libc::{SA_SIGINFO, SIG_DFL, SIGILL, c_int, c_void, sigaction, siginfo_t, signal, ucontext_t};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::Once;

/// Sixteen rows of sixteen values.
type Tile = [[u32; 16]; 16];

thread_local! {
    static TILES: [Cell<Tile>; 8] = const { [const { Cell::new([[0; 16]; 16]) }; 8] };
}

/// From now on instructions of AMX that the processor does not know are carried out all the same.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = SA_SIGINFO;
        assert_eq!(sigaction(SIGILL, &action, null_mut()), 0);
    });
}

extern "C" fn handle(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    match unsafe { carry_out(registers) } {
        Some(length) => registers[REG_RIP as usize] += length,
        // Nothing of ours: the instruction is met again, and ends the process.
        None => unsafe {
            signal(SIGILL, SIG_DFL);
        },
    }
}

/// Carries out the instruction at hand and gives its length.
unsafe fn carry_out(registers: &[i64]) -> Option<i64> {
    let code: [u8; 10] = unsafe { *(registers[REG_RIP as usize] as *const [u8; 10]) };
    let [0xc4, extension, prefix, opcode, operands, ..] = code else { return None };
    if extension & 0x1f != 2 {
        return None;
    }
    let (middle, low) = (usize::from(operands >> 3 & 7), usize::from(operands & 7));
    let tile = |i: usize| TILES.with(|tiles| tiles[i].get());
    let set = |i: usize, to: Tile| TILES.with(|tiles| tiles[i].set(to));
    let between_registers = operands >> 6 == 3;
    match (opcode, prefix & 3, between_registers) {
        // ldtilecfg, whose tiles are always whole.
        (0x49, 0, false) => return Some(5 + i64::from(low == 4) + i64::from(operands >> 6 == 1)),
        // tilerelease
        (0x49, 0, true) => {}
        // tilezero
        (0x49, 3, true) => set(middle, [[0; 16]; 16]),
        // tdpbf16ps
        (0x5c, 2, true) => {
            let columns = usize::from(!prefix >> 3 & 7);
            let mut sums = tile(middle);
            multiply(&mut sums, &tile(low), &tile(columns));
            set(middle, sums);
        }
        // tileloadd and tilestored
        (0x4b, 2 | 3, false) => {
            let (base, apart, length) = memory(registers, extension, &code[4..])?;
            let row = |row: i64| (base + row * apart) as *mut [u32; 16];
            match prefix & 3 {
                3 => set(middle, std::array::from_fn(|i| unsafe { row(i as i64).read_unaligned() })),
                _ => (0..).zip(tile(middle)).for_each(|(i, values)| unsafe { row(i).write_unaligned(values) }),
            }
            return Some(4 + length);
        }
        _ => return None,
    }
    Some(5)
}

/// Sums of pairs of bf16, one after the other, without numbers below the normal ones.
fn multiply(sums: &mut Tile, rows: &Tile, columns: &Tile) {
    let normal = |bits: u32| f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits });
    let halves = |pair: u32| [normal(pair << 16), normal(pair & 0xffff_0000)];
    for (sums, row) in sums.iter_mut().zip(rows) {
        for (pair, columns) in row.iter().zip(columns) {
            for (sum, column) in sums.iter_mut().zip(columns) {
                let ([a, b], [c, d]) = (halves(*pair), halves(*column));
                let total = normal((normal(*sum) + a * c).to_bits());
                *sum = normal((total + b * d).to_bits()).to_bits();
            }
        }
    }
}

/// An operand of a base, an index and a displacement: the first row's address, the bytes from one row to the next, and the
/// bytes that tell it.
fn memory(registers: &[i64], extension: u8, bytes: &[u8]) -> Option<(i64, i64, i64)> {
    const ORDER: [c_int; 16] = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
        REG_R12, REG_R13, REG_R14, REG_R15,
    ];
    let (operands, index) = (bytes[0], bytes[1]);
    if operands & 7 != 4 {
        return None;
    }
    let register = |low: u8, high: bool| registers[ORDER[usize::from(low & 7) + if high { 8 } else { 0 }] as usize];
    let base = register(index, extension & 0x20 == 0);
    let apart = register(index >> 3, extension & 0x40 == 0) << (index >> 6);
    let (displacement, length) = match operands >> 6 {
        0 if index & 7 != 5 => (0, 2),
        1 => (i64::from(bytes[2] as i8), 3),
        2 => (i64::from(i32::from_le_bytes(bytes[2..6].try_into().ok()?)), 6),
        _ => return None,
    };
    Some((base + displacement, apart, length))
}
