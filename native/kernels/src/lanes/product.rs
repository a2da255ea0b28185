//! Products of small matrices that stay in a cache: nothing is packed.

use super::{LANES, Lanes};

/// The left factor of a product, a row-major matrix: where it begins, and the numbers from a row to the next.
#[derive(Clone, Copy)]
pub(crate) enum Factor {
    /// As it is.
    Rows(*const f32, usize),
    /// Its columns are the product's rows.
    Turned(*const f32, usize),
}

/// How a product gets to its place.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Put {
    /// In place of what is there.
    Set,
    /// Added to what is there.
    Add,
    /// In place of what is there, past the caches: rows are whole vectors, at multiples of 64 bytes. [`super::drain`] must
    /// follow.
    Stream,
}

impl Put {
    /// For all parts of a sum but the first.
    pub fn add(more: bool) -> Self {
        if more { Self::Add } else { Self::Set }
    }
}

/// `c[m][n] = sum over k of a[m][k] * b[k][n]`. Matrices are row-major: where they
/// begin, and the numbers from a row to the next.
///
/// # Safety
/// That of [`Lanes`]. `a` and `b` may be read, `c` written, within their m, k and n alone.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes>(
    size: [usize; 3],
    a: Factor,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    put: Put,
) {
    unsafe {
        match a {
            Factor::Rows(a, row) => columns::<V, false>(size, a, row, b, c, put),
            Factor::Turned(a, row) => columns::<V, true>(size, a, row, b, c, put),
        }
    }
}

#[inline(always)]
unsafe fn columns<V: Lanes, const TURNED: bool>(
    [m, k, n]: [usize; 3],
    a: *const f32,
    a_row: usize,
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    put: Put,
) {
    let mut first = 0;
    let mut tile = Tile { k, a, a_row, b, b_row, c, c_row, put };
    while first < n {
        let rest = n - first;
        let width = unsafe {
            tile.b = b.add(first);
            tile.c = c.add(first);
            if V::COLUMNS >= 4 && rest >= 4 * LANES {
                tile.rows::<V, TURNED, 4, 4>(m, LANES);
                4 * LANES
            } else if V::COLUMNS >= 2 && rest >= 2 * LANES {
                tile.rows::<V, TURNED, 8, 2>(m, LANES);
                2 * LANES
            } else if rest >= LANES {
                match V::ROWS {
                    16 => tile.rows::<V, TURNED, 16, 1>(m, LANES),
                    _ => tile.rows::<V, TURNED, 4, 1>(m, LANES),
                }
                LANES
            } else {
                tile.rows::<V, TURNED, 4, 1>(m, rest);
                rest
            }
        };
        first += width;
    }
}

#[derive(Clone, Copy)]
struct Tile {
    k: usize,
    a: *const f32,
    a_row: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    put: Put,
}

impl Tile {
    /// `C` vectors of all rows, of which the last has `last` numbers.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const TURNED: bool, const R: usize, const C: usize>(mut self, m: usize, last: usize) {
        let mut rest = m;
        unsafe {
            while rest >= R {
                self.some::<V, TURNED, false, R, C>(R, last);
                rest -= R;
            }
            // One tile that is not full, where several small ones would each wait for their few sums.
            if C < 4 && rest > 2 && !rest.is_power_of_two() {
                return if R > 8 && rest > 8 {
                    self.some::<V, TURNED, true, 16, C>(rest, last);
                } else if R > 4 && rest > 4 {
                    self.some::<V, TURNED, true, 8, C>(rest, last);
                } else {
                    self.some::<V, TURNED, true, 4, C>(rest, last);
                };
            }
            if R > 8 && rest >= 8 {
                self.some::<V, TURNED, false, 8, C>(8, last);
                rest -= 8;
            }
            if R > 4 && rest >= 4 {
                self.some::<V, TURNED, false, 4, C>(4, last);
                rest -= 4;
            }
            if rest >= 2 {
                self.some::<V, TURNED, false, 2, C>(2, last);
                rest -= 2;
            }
            if rest > 0 {
                self.some::<V, TURNED, false, 1, C>(1, last);
            }
        }
    }

    /// `C` vectors of `R` rows, whose sums stay in registers, or, `FEW` of them, of the first `present`; goes on to the next rows.
    #[inline(always)]
    unsafe fn some<V: Lanes, const TURNED: bool, const FEW: bool, const R: usize, const C: usize>(
        &mut self,
        present: usize,
        last: usize,
    ) {
        unsafe {
            if last == LANES {
                self.sums::<V, TURNED, FEW, false, R, C>(present, last);
            } else {
                self.sums::<V, TURNED, FEW, true, R, C>(present, last);
            }
            self.a = self.a.add(if TURNED { R } else { R * self.a_row });
            self.c = self.c.add(R * self.c_row);
        }
    }

    #[inline(always)]
    unsafe fn sums<V: Lanes, const TURNED: bool, const FEW: bool, const PART: bool, const R: usize, const C: usize>(
        &self,
        present: usize,
        last: usize,
    ) {
        unsafe {
            let mut sums = [[V::splat(0.0); C]; R];
            let mut b = self.b;
            let mut turned = self.a;
            // The last row stands for those that are not there.
            let row = |r: usize| if FEW { r.min(present - 1) } else { r };
            let rows: [*const f32; R] =
                std::array::from_fn(|r| self.a.add(row(r) * if TURNED { 1 } else { self.a_row }));
            for i in 0..self.k {
                let columns: [V; C] = std::array::from_fn(|column| {
                    let b = b.add(column * LANES);
                    if PART { V::load_part(b, last) } else { V::load(b) }
                });
                for r in 0..R {
                    let x = V::splat(if TURNED { *turned.add(row(r)) } else { *rows[r].add(i) });
                    for column in 0..C {
                        sums[r][column] = x.mul_add(columns[column], sums[r][column]);
                    }
                }
                b = b.add(self.b_row);
                turned = turned.add(if TURNED { self.a_row } else { 0 });
            }
            for (r, sums) in sums.into_iter().enumerate() {
                if FEW && r >= present {
                    return;
                }
                for (column, sum) in sums.into_iter().enumerate() {
                    let c = self.c.add(r * self.c_row + column * LANES);
                    match (PART, self.put) {
                        (false, Put::Set) => sum.store(c),
                        (false, Put::Add) => V::load(c).add(sum).store(c),
                        (false, Put::Stream) => sum.stream(c),
                        (true, Put::Add) => V::load_part(c, last).add(sum).store_part(c, last),
                        (true, _) => sum.store_part(c, last),
                    }
                }
            }
        }
    }
}
