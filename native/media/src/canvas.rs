//! The canvas animations are drawn on: what GIF, APNG and WebP share.

use crate::{Error, Result};

/// How a frame's pixels meet those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blend {
    /// Replace them, transparency included.
    Source,
    /// Lie over them.
    Over,
}

/// A rectangle inside a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Pixels to the left of it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Pixels a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Rect {
    /// Refuses a rectangle that is empty or leaves a `width` x `height` canvas.
    pub(crate) fn check(self, format: &'static str, width: u32, height: u32) -> Result<()> {
        let inside = |at: u32, long: u32, limit: u32| long > 0 && at.checked_add(long).is_some_and(|end| end <= limit);
        if inside(self.x, self.width, width) && inside(self.y, self.height, height) {
            return Ok(());
        }
        let Self { x, y, width: w, height: h } = self;
        Err(Error::bad(format, format!("a {w}x{h} frame at ({x}, {y}) leaves its {width}x{height} canvas")))
    }
}

/// A straight RGBA canvas, transparent at first.
pub(crate) struct Canvas {
    width: u32,
    pub pixels: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { width, pixels: vec![0; width as usize * height as usize * 4] }
    }

    fn row(&mut self, rect: Rect, y: u32) -> &mut [u8] {
        let start = ((rect.y + y) as usize * self.width as usize + rect.x as usize) * 4;
        &mut self.pixels[start..start + rect.width as usize * 4]
    }

    /// Draws `rect.width * rect.height` RGBA pixels. The rectangle has been checked.
    pub(crate) fn draw(&mut self, rect: Rect, pixels: &[u8], blend: Blend) {
        for (y, from) in pixels.chunks_exact(rect.width as usize * 4).take(rect.height as usize).enumerate() {
            let to = self.row(rect, y as u32);
            match blend {
                Blend::Source => to.copy_from_slice(from),
                Blend::Over => {
                    for (to, from) in to.chunks_exact_mut(4).zip(from.chunks_exact(4)) {
                        let below = [to[0], to[1], to[2], to[3]];
                        to.copy_from_slice(&over([from[0], from[1], from[2], from[3]], below));
                    }
                }
            }
        }
    }

    /// Makes the rectangle transparent.
    pub(crate) fn clear(&mut self, rect: Rect) {
        for y in 0..rect.height {
            self.row(rect, y).fill(0);
        }
    }
}

/// Straight-alpha "over" in 8 bits, rounded once: 7 spare bits keep it within half a level.
pub(crate) fn over(above: [u8; 4], below: [u8; 4]) -> [u8; 4] {
    if above[3] == 0 {
        return below;
    }
    if above[3] == 255 {
        return above;
    }
    let by_255 = |v: u32| ((v >> 8) + v) >> 8;
    let alpha = u32::from(above[3]) * 255 + u32::from(below[3]) * (255 - u32::from(above[3]));
    let first = (u32::from(above[3]) * 255 * 255 * 128) / alpha;
    let second = 255 * 128 - first;
    let mix = |a: u8, b: u8| (by_255(u32::from(a) * first + u32::from(b) * second + (128 << 7)) >> 7) as u8;
    [mix(above[0], below[0]), mix(above[1], below[1]), mix(above[2], below[2]), by_255(alpha + 128) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_stays_within_half_a_level() {
        for a in (0..=255u32).step_by(5) {
            for s in (0..=255u32).step_by(15) {
                for d in (0..=255u32).step_by(15) {
                    let got = over([s as u8, 0, 0, a as u8], [d as u8, 0, 0, 255])[0];
                    let exact = f64::from(s * a + d * (255 - a)) / 255.0;
                    assert!((f64::from(got) - exact).abs() <= 0.51, "{s} {d} {a}: {got} {exact}");
                }
            }
        }
    }

    #[test]
    fn rectangles_stay_inside() {
        assert!(Rect { x: 1, y: 1, width: 3, height: 3 }.check("GIF", 4, 4).is_ok());
        assert!(Rect { x: 2, y: 1, width: 3, height: 3 }.check("GIF", 4, 4).is_err());
        assert!(Rect { x: u32::MAX, y: 0, width: 2, height: 1 }.check("GIF", 4, 4).is_err());
    }
}
