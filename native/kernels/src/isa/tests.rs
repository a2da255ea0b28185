//! Every tile against plain loops, with operands that end where memory ends.

use super::*;
use crate::lanes::guarded::Guarded;
use crate::philox::normal as values;

/// Numbers behind which nothing may be touched.
fn guarded(count: usize, seed: u64) -> Guarded {
    Guarded::new(&values(count, seed))
}

fn check(found: f32, expected: f64, what: impl std::fmt::Debug) {
    assert!((f64::from(found) - expected).abs() < 1e-4, "{what:?}: {found} is not {expected}");
}

#[test]
fn gathered_tiles_are_sums_over_taps_and_steps() {
    for isa in Isa::tested() {
        let Tiles { rows, tile, .. } = tiles(isa, Format::F32);
        for (taps, steps) in [(1, 1), (3, 2), (2, 3), (1, 4), (2, 5), (1, 8), (3, 19), (0, 4)] {
            for (stride, biased) in [(PANEL, false), (PANEL + 5, true)] {
                let a: Vec<_> = (0..taps * rows).map(|row| guarded(steps, row as u64)).collect();
                let b = guarded(taps * steps * PANEL, 100);
                let (bias, before) = (guarded(PANEL, 101), values((rows - 1) * stride + PANEL, 102));
                let c = Guarded::new(&before);
                let sources: Vec<_> = a.iter().map(|row| row.at().cast::<u8>().cast_const()).collect();
                let of_bias = if biased { bias.at().cast_const() } else { std::ptr::null() };
                let next = if biased { sources.as_ptr() } else { std::ptr::null() };
                unsafe { tile(taps, steps, sources.as_ptr(), next, b.at().cast(), of_bias, c.at(), stride) };
                for (i, &found) in c.values().iter().enumerate() {
                    let (row, column) = (i / stride, i % stride);
                    if column >= PANEL {
                        assert_eq!(found, before[i], "{isa:?}: beyond a row");
                        continue;
                    }
                    let product = |k: usize| {
                        let (tap, step) = (k / steps, k % steps);
                        let x = a[tap * rows + row].values()[step];
                        f64::from(x) * f64::from(b.values()[k * PANEL + column])
                    };
                    let start = if biased { f64::from(bias.values()[column]) } else { 0.0 };
                    check(found, start + (0..taps * steps).map(product).sum::<f64>(), (isa, taps, steps, i));
                }
            }
        }
    }
}

#[test]
fn summing_tiles_add_to_what_is_there() {
    for isa in Isa::tested() {
        let summing = tiles(isa, Format::F32).summing;
        for rows in SUMMING_ROWS {
            for (steps, first, apart) in [(1, 0, PANEL), (7, 4, PANEL + 3), (64, 1, 2 * PANEL)] {
                let lines: Vec<_> = (0..steps).map(|k| guarded(first + rows, k as u64)).collect();
                let b = guarded((steps - 1) * apart + PANEL, 100);
                let before = values((rows - 1) * apart + PANEL, 101);
                let c = Guarded::new(&before);
                let sources: Vec<_> = lines.iter().map(|line| line.at().cast_const()).collect();
                unsafe { summing(first, rows, steps, sources.as_ptr(), b.at(), apart, c.at(), apart) };
                for (i, &found) in c.values().iter().enumerate() {
                    let (row, column) = (i / apart, i % apart);
                    if column >= PANEL {
                        assert_eq!(found, before[i], "{isa:?}: beyond a row");
                        continue;
                    }
                    let product = |k: usize| {
                        f64::from(lines[k].values()[first + row]) * f64::from(b.values()[k * apart + column])
                    };
                    let sum: f64 = (0..steps).map(product).sum();
                    check(found, f64::from(before[i]) + sum, (isa, rows, steps, i));
                }
            }
        }
    }
}

#[test]
fn columns_are_turned_to_rows() {
    for isa in Isa::tested() {
        let turn = tiles(isa, Format::F32).turn;
        for (count, apart) in [(1, 16), (3, 20), (4, 16), (7, 17), (16, 16), (21, 32)] {
            let columns: [_; 16] = std::array::from_fn(|column| guarded(count, column as u64));
            let to = guarded((count - 1) * apart + 16, 100);
            let missing = |column: usize| column == 2 || column > 12;
            let of = |column| if missing(column) { std::ptr::null() } else { columns[column].at().cast_const() };
            unsafe { turn(&std::array::from_fn(of), count, to.at(), apart) };
            for (i, &found) in to.values().iter().enumerate().filter(|(i, _)| i % apart < 16) {
                let (row, column) = (i / apart, i % apart);
                let expected = if missing(column) { 0.0 } else { columns[column].values()[row] };
                assert_eq!(found, expected, "{isa:?} {count}: {i}");
            }
        }
    }
}

/// Numbers of bf16 in room for f32.
fn halves(of: &Guarded) -> &[u16] {
    unsafe { std::slice::from_raw_parts(of.at().cast(), 2 * of.values().len()) }
}

/// A number in bf16, or what that leaves of it.
fn part(value: f32, rest: bool) -> u16 {
    let high = to_bf16(value);
    let left = value - from_bf16(high);
    match rest {
        true => to_bf16(if left.is_finite() { left } else { 0.0 }),
        false => high,
    }
}

fn fast_bf16_is_tested() -> bool {
    Isa::tested().any(Isa::fast_bf16)
}

#[test]
fn numbers_are_rounded_to_bf16() {
    if !fast_bf16_is_tested() {
        return;
    }
    let mut numbers = values(6 * 32, 1);
    let edges =
        [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x7fc0_0001];
    numbers.iter_mut().zip(edges).for_each(|(number, bits)| *number = f32::from_bits(bits));
    for rest in [false, true] {
        for (rows, columns) in [(1usize, 32usize), (3, 64), (6, 20), (4, 45), (2, 1)] {
            let lines = columns.div_ceil(32);
            let (from, to) = (Guarded::new(&numbers[..rows * columns]), guarded(rows * lines * 16, 2));
            unsafe { convert_rows(rows, columns, from.at(), to.at().cast(), rest) };
            for (row, found) in halves(&to).chunks(lines * 32).enumerate() {
                let mut expected = vec![0; lines * 32];
                let row = &from.values()[row * columns..][..columns];
                expected.iter_mut().zip(row).for_each(|(to, value)| *to = part(*value, rest));
                assert_eq!(found, expected, "{columns} {rest}");
            }
        }
        let (pairs, n) = (3, 37);
        let (rows, to) = (guarded(5 * n + PANEL, 3), guarded(pairs * PANEL, 4));
        unsafe { pair_rows(rows.at(), n, pairs, to.at().cast(), rest) };
        for (i, &found) in halves(&to).iter().enumerate() {
            let (pair, column) = (i / (2 * PANEL), i % (2 * PANEL) / 2);
            let expected = part(rows.values()[(2 * pair + i % 2) * n + column], rest);
            assert_eq!(found, expected, "{rest}: {i}");
        }
    }
    let (from, to) = (Guarded::new(&numbers), guarded(numbers.len() / 2, 2));
    unsafe { convert_bf16(numbers.len() / 32, from.at(), to.at().cast()) };
    assert_eq!(halves(&to), numbers.iter().map(|value| to_bf16(*value)).collect::<Vec<_>>());
    let (even, odd, to) = (guarded(16, 5), guarded(16, 6), guarded(16, 7));
    unsafe { interleave_bf16(even.at(), odd.at(), to.at().cast()) };
    for (i, pair) in halves(&to).as_chunks::<2>().0.iter().enumerate() {
        assert_eq!(*pair, [even.values()[i], odd.values()[i]].map(to_bf16));
    }
}

#[test]
fn rows_are_turned_to_lines_of_bf16() {
    if !fast_bf16_is_tested() {
        return;
    }
    for (columns, apart) in [(16, 64), (1, 64), (5, 128), (8, 64), (11, 192)] {
        for rest in [false, true] {
            let rows: [_; 32] = std::array::from_fn(|row| guarded(columns, row as u64));
            let to = guarded(((columns - 1) * apart + LINE) / 4, 100);
            let missing = |row: usize| row == 0 || row > 29;
            let of = |row| if missing(row) { std::ptr::null() } else { rows[row].at().cast_const() };
            unsafe { turn_bf16(&std::array::from_fn(of), columns, to.at().cast(), apart, rest) };
            for (column, line) in halves(&to).chunks(apart / 2).enumerate() {
                let of = |row: usize| if missing(row) { 0 } else { part(rows[row].values()[column], rest) };
                assert_eq!(line[..32], std::array::from_fn::<_, 32, _>(of), "{columns} {rest}");
            }
        }
    }
}

#[test]
fn what_is_not_present_is_not_read() {
    if !fast_bf16_is_tested() {
        return;
    }
    for last in [u32::MAX, 0, 0xffff, 1, 0x3fff_ffff, 0b1101_0110_0011] {
        let present = [u32::MAX, 0xefff_fff7, 0, last];
        let held = 3 * 16 + (32 - last.leading_zeros() as usize).div_ceil(2);
        let (from, to) = (guarded(held, 1), guarded(present.len() * 16, 2));
        unsafe { copy_present(from.at().cast(), &present, to.at().cast()) };
        for (i, &found) in halves(&to).iter().enumerate() {
            let is_present = present[i / 32] >> (i % 32) & 1 == 1;
            assert_eq!(found, if is_present { halves(&from)[i] } else { 0 }, "{last:b}: {i}");
        }
    }
}

#[test]
fn blocks_of_bf16_are_sums_over_steps() {
    for isa in Isa::tested().filter(|isa| isa.fast_bf16()) {
        for (offsets, apart) in [(vec![0], LINE), (vec![LINE, 0, 5 * LINE], 6 * LINE)] {
            let steps = offsets.len();
            let held = 31 * apart + offsets.iter().max().unwrap() + LINE;
            let numbers = |count: usize, seed| values(count, seed).into_iter().map(to_bf16).collect::<Vec<_>>();
            let lines = |numbers: &[u16]| {
                let pairs = numbers.as_chunks::<2>().0.iter();
                let pairs: Vec<_> = pairs.map(|[a, b]| f32::from_bits(u32::from(*b) << 16 | u32::from(*a))).collect();
                Guarded::new(&pairs)
            };
            let (a, b) = (numbers(held / 2, 1), numbers(steps * PANEL_BLOCK / 2, 2));
            let (of_a, of_b, start) = (lines(&a), lines(&b), guarded(PANEL, 3));
            for in_place in [false, true] {
                let stride = PANEL + 3;
                let before = values(31 * stride + PANEL, 4);
                let c = Guarded::new(&before);
                let halves = [c.at(), c.at().wrapping_add(16 * stride)];
                let a_at = of_a.at().cast::<u8>().cast_const();
                let block = Block {
                    steps,
                    offsets: offsets.as_ptr(),
                    a: [a_at, a_at.wrapping_add(16 * apart)],
                    apart,
                    b: of_b.at().cast(),
                    start: if in_place { halves.map(<*mut f32>::cast_const) } else { [start.at().cast_const(); 2] },
                    start_apart: if in_place { stride } else { 0 },
                    c: halves,
                    stride,
                };
                multiplying(isa, |tile| unsafe { tile(&block) });
                for (i, &found) in c.values().iter().enumerate() {
                    let (row, column) = (i / stride, i % stride);
                    if column >= PANEL {
                        assert_eq!(found, before[i], "{isa:?}: beyond a row");
                        continue;
                    }
                    let product = |k: usize| {
                        let (step, k) = (k / 32, k % 32);
                        let x = from_bf16(a[(row * apart + offsets[step]) / 2 + k]);
                        let w = from_bf16(b[step * PANEL_BLOCK / 2 + k / 2 * 2 * PANEL + 2 * column + k % 2]);
                        f64::from(x) * f64::from(w)
                    };
                    let begin = if in_place { before[i] } else { start.values()[column] };
                    check(found, f64::from(begin) + (0..steps * 32).map(product).sum::<f64>(), (isa, &offsets, i));
                }
            }
        }
    }
}
