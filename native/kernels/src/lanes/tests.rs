use super::guarded::Guarded;
use super::*;

/// Runs a test for each kind of vectors that this machine has.
macro_rules! on_all_lanes {
    ($test:ident($($arg:expr),*)) => {
        unsafe {
            $test::<$crate::lanes::Plain>($($arg),*);
            #[cfg(target_arch = "aarch64")]
            $test::<$crate::lanes::Neon>($($arg),*);
            #[cfg(target_arch = "x86_64")]
            {
                if $crate::Isa::Avx2.available() {
                    $test::<$crate::lanes::Avx2>($($arg),*);
                }
                if $crate::Isa::Avx512.available() {
                    $test::<$crate::lanes::Avx512>($($arg),*);
                }
            }
        }
    };
}
pub(crate) use on_all_lanes;

/// Numbers from -1 to 1.
pub(crate) fn numbers(state: &mut u64, count: usize) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

unsafe fn of_each<V: Lanes>(values: [f32; LANES], of: unsafe fn(V) -> V) -> [f32; LANES] {
    let mut found = [0f32; LANES];
    unsafe { of(V::load(values.as_ptr())).store(found.as_mut_ptr()) };
    found
}

unsafe fn exponentials_are_accurate<V: Lanes>() {
    for first in (-864..880).step_by(LANES) {
        let x: [f32; LANES] = std::array::from_fn(|i| (first + i as i32) as f32 / 10.0);
        for (found, x) in unsafe { of_each::<V>(x, V::exp) }.into_iter().zip(x) {
            let expected = f64::from(x).exp();
            assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "e^{x} is not {found}");
        }
    }
    let mut edges = [-100.0; LANES];
    edges[..4].copy_from_slice(&[f32::NEG_INFINITY, f32::NAN, 0.0, -87.5]);
    let found = unsafe { of_each::<V>(edges, V::exp) };
    assert_eq!((found[0], found[2], found[3], found[4]), (0.0, 1.0, 0.0, 0.0));
    assert!(found[1].is_nan());
    edges[..4].copy_from_slice(&[f32::INFINITY, f32::NAN, 0.0, -1.0]);
    let found = unsafe { of_each::<V>(edges, V::silu) };
    assert_eq!((found[0], found[2]), (f32::INFINITY, 0.0));
    assert!(found[1].is_nan() && (found[3] + 0.268_941_43).abs() < 1e-7 && found[4].abs() < 1e-35);
}

#[test]
fn exponentials() {
    on_all_lanes!(exponentials_are_accurate());
}

unsafe fn a_matrix_is_turned<V: Lanes>(state: &mut u64) {
    for [rows, columns] in [[16, 16], [1, 1], [15, 17], [33, 40], [64, 5], [7, 64]] {
        let row = columns + 3;
        let from = numbers(state, (rows - 1) * row + columns);
        let guarded = Guarded::new(&from);
        let (height, width) = (columns.next_multiple_of(LANES), rows.next_multiple_of(LANES));
        let mut to = vec![7f32; height * width];
        unsafe { turn::<V>((guarded.at(), row), [rows, columns], 0.5, to.as_mut_ptr(), width) };
        for (i, found) in to.into_iter().enumerate() {
            let (column, r) = (i / width, i % width);
            let expected = if r < rows && column < columns { from[r * row + column] * 0.5 } else { 0.0 };
            assert_eq!(found, expected, "{rows}x{columns}");
        }
    }
}

#[test]
fn turned() {
    on_all_lanes!(a_matrix_is_turned(&mut 1));
}

unsafe fn a_product_is_its_definition<V: Lanes>(state: &mut u64) {
    for case in 0..60 {
        let mut size = |most: f32| 1 + (numbers(state, 1)[0].abs() * most) as usize;
        let [m, k, n] = [size(40.0), size(70.0), size(140.0)];
        let (a_row, b_row, c_row) = (m.max(k) + case % 3, n + case % 5, n + case % 4);
        let turned = case % 2 == 1;
        let a_len = if turned { (k - 1) * a_row + m } else { (m - 1) * a_row + k };
        let [a, b, before] = [a_len, (k - 1) * b_row + n, (m - 1) * c_row + n].map(|len| numbers(state, len));
        let (of_a, of_b, c) = (Guarded::new(&a), Guarded::new(&b), Guarded::new(&before));
        let factor = if turned { Factor::Turned(of_a.at(), a_row) } else { Factor::Rows(of_a.at(), a_row) };
        let put = Put::add(case % 3 == 0);
        unsafe { V::multiply([m, k, n], factor, (of_b.at(), b_row), (c.at(), c_row), put) };
        for (i, found) in c.values().iter().enumerate() {
            let (row, column) = (i / c_row, i % c_row);
            if column >= n {
                assert_eq!(*found, before[i], "beyond a row");
                continue;
            }
            let of = |j: usize| f64::from(if turned { a[j * a_row + row] } else { a[row * a_row + j] });
            let sum: f64 = (0..k).map(|j| of(j) * f64::from(b[j * b_row + column])).sum();
            let expected = if put == Put::Add { sum + f64::from(before[i]) } else { sum };
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{m} {k} {n}: {found} is not {expected}");
        }
    }
}

#[test]
fn products() {
    on_all_lanes!(a_product_is_its_definition(&mut 2));
}
