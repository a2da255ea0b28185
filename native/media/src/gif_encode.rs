//! GIF out: one palette for all frames, a dither that does not move, and only what changed stored.

use std::io::Write;

use gif::{DisposalMethod, Encoder, EncodingError, Frame, Repeat};
use rayon::prelude::*;

use crate::{
    Error, Frames, Progress, Result, Timing,
    canvas::Rect,
    palette::{Palette, is_ground},
    progress::Steps,
};

/// How far the ordered dither shifts a colour each way, in levels of 255. Measured on rendered emoji clips: enough to
/// break the bands of smooth shading at 254 colours, not enough to be seen as a pattern.
const DITHER: i16 = 5;

pub(crate) fn encode(frames: &Frames, timing: &Timing, writer: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
    let (Ok(width), Ok(height)) = (u16::try_from(frames.width), u16::try_from(frames.height)) else {
        return Err(Error::refused("a GIF is at most 65535 pixels wide and high"));
    };
    let delays = timing.hundredths(frames.frames.len())?;
    let rgb: Vec<Vec<u8>> = (0..frames.frames.len()).into_par_iter().map(|i| frames.on_white(i)).collect();
    // One index is kept for "as before".
    let palette = Palette::of(&rgb, 255);
    let same = palette.colours().len() as u8;
    // Each frame is looked through twice: for its colours' indices, and to be written.
    let steps = Steps::new(2 * rgb.len(), progress);
    let indexed: Vec<Vec<u8>> = rgb
        .par_iter()
        .map(|frame| {
            let indices = index(frame, frames.width as usize, &palette);
            steps.one()?;
            Ok(indices)
        })
        .collect::<Result<_>>()?;
    drop(rgb);

    let mut table: Vec<u8> = palette.colours().iter().flatten().copied().collect();
    table.extend([255; 3]);
    let mut out = Encoder::new(writer, width, height, &table).map_err(failed)?;
    if indexed.len() > 1 {
        out.set_repeat(Repeat::Infinite).map_err(failed)?;
    }
    for (number, pixels) in indexed.iter().enumerate() {
        let rect = match number {
            0 => Rect { x: 0, y: 0, width: frames.width, height: frames.height },
            _ => changed(&indexed[number - 1], pixels, frames.width, 1),
        };
        let mut buffer = Vec::with_capacity(rect.width as usize * rect.height as usize);
        for y in rect.y..rect.y + rect.height {
            let start = y as usize * frames.width as usize + rect.x as usize;
            let row = start..start + rect.width as usize;
            match number {
                0 => buffer.extend_from_slice(&pixels[row]),
                _ => buffer.extend(
                    pixels[row.clone()]
                        .iter()
                        .zip(&indexed[number - 1][row])
                        .map(|(&now, &before)| if now == before { same } else { now }),
                ),
            }
        }
        out.write_frame(&Frame {
            delay: delays[number],
            dispose: DisposalMethod::Keep,
            transparent: (number > 0).then_some(same),
            left: rect.x as u16,
            top: rect.y as u16,
            width: rect.width as u16,
            height: rect.height as u16,
            buffer: buffer.into(),
            ..Frame::default()
        })
        .map_err(failed)?;
        steps.one()?;
    }
    out.into_inner().map(|_| ()).map_err(failed)
}

/// Palette indices of a packed RGB frame. The result for a pixel depends on its colour and place only, so what does
/// not move does not shimmer; error diffusion would carry every change across the picture.
fn index(rgb: &[u8], width: usize, palette: &Palette) -> Vec<u8> {
    let mut cache = vec![(u32::MAX, 0u8); 1 << 14];
    let mut indices = Vec::with_capacity(rgb.len() / 3);
    for (at, p) in rgb.chunks_exact(3).enumerate() {
        if is_ground(p) {
            indices.push(0);
            continue;
        }
        let mut colour = [p[0], p[1], p[2]];
        if !palette.is_exact() {
            let shift = bayer(at % width, at / width);
            colour = colour.map(|v| (i16::from(v) + shift).clamp(0, 255) as u8);
        }
        let key = u32::from(colour[0]) << 16 | u32::from(colour[1]) << 8 | u32::from(colour[2]);
        let slot = &mut cache[(key.wrapping_mul(0x9E37_79B1) >> 18) as usize];
        if slot.0 != key {
            *slot = (key, palette.nearest(colour));
        }
        indices.push(slot.1);
    }
    indices
}

/// The 8 x 8 Bayer pattern, scaled to -DITHER..=DITHER.
fn bayer(x: usize, y: usize) -> i16 {
    let (x, y) = (x & 7, y & 7);
    let mut rank = 0;
    for bit in 0..3 {
        let (xb, yb) = (x >> bit & 1, y >> bit & 1);
        rank |= ((xb ^ yb) << 1 | yb) << (2 * (2 - bit));
    }
    // From the middle of each of 64 steps, so that the shifts add up to nothing.
    let rank = rank as i16;
    (2 * rank + 1) * (2 * DITHER + 1) / 128 - DITHER
}

/// The smallest rectangle outside which two frames of `bytes` a pixel are the same; one pixel when they are the same everywhere.
pub(crate) fn changed(before: &[u8], now: &[u8], width: u32, bytes: usize) -> Rect {
    let row = width as usize * bytes;
    let differ = |(a, b): (&[u8], &[u8])| a != b;
    let rows = || before.chunks_exact(row).zip(now.chunks_exact(row));
    let Some(top) = rows().position(differ) else {
        return Rect { x: 0, y: 0, width: 1, height: 1 };
    };
    let bottom = rows().rposition(differ).unwrap_or(top);
    let (mut left, mut right) = (width as usize, 0);
    for (a, b) in rows().skip(top).take(bottom + 1 - top) {
        let pixels = || a.chunks_exact(bytes).zip(b.chunks_exact(bytes));
        if let Some(first) = pixels().position(differ) {
            left = left.min(first);
            right = right.max(pixels().rposition(differ).unwrap_or(first));
        }
    }
    Rect { x: left as u32, y: top as u32, width: (right - left + 1) as u32, height: (bottom - top + 1) as u32 }
}

fn failed(e: EncodingError) -> Error {
    match e {
        EncodingError::Io(source) => Error::io("cannot write the GIF", source),
        other => Error::refused(format!("cannot write this as GIF: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_rectangle_is_the_smallest() {
        let before = vec![0u8; 6 * 5];
        let mut now = before.clone();
        assert_eq!(changed(&before, &now, 6, 1), Rect { x: 0, y: 0, width: 1, height: 1 });
        now[6 + 2] = 1;
        now[3 * 6 + 4] = 1;
        assert_eq!(changed(&before, &now, 6, 1), Rect { x: 2, y: 1, width: 3, height: 3 });
    }

    #[test]
    fn the_dither_is_balanced() {
        let shifts: Vec<i16> = (0..64).map(|i| bayer(i % 8, i / 8)).collect();
        assert_eq!(shifts.iter().min(), Some(&-DITHER));
        assert_eq!(shifts.iter().max(), Some(&DITHER));
        let sum: i16 = shifts.iter().sum();
        assert_eq!(sum, 0);
    }
}
