//! WebP out, lossless: the still encoder is `image-webp`; the container of an animation is written here.

use std::io::Write;

use image_webp::{ColorType, WebPEncoder};
use rayon::prelude::*;

use crate::{
    Error, Frames, Progress, Result, Timing, canvas::Rect, gif_encode::changed, png_encode::cut, progress::Steps,
};

pub(crate) fn encode(frames: &Frames, timing: &Timing, writer: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
    let count = frames.frames.len();
    let delays = timing.parts(count, 1000)?;
    let steps = Steps::new(count, progress);
    let whole = Rect { x: 0, y: 0, width: frames.width, height: frames.height };
    let pictures: Vec<(Rect, Vec<u8>)> = (0..count)
        .into_par_iter()
        .map(|index| {
            // Only what changed is stored; every frame but the first lies over the one before it. Places are even.
            let rect = match index {
                0 => whole,
                _ => even(changed(&frames.frames[index - 1], &frames.frames[index], frames.width, 4)),
            };
            let picture = lossless(frames, index, rect)?;
            steps.one()?;
            Ok((rect, picture))
        })
        .collect::<Result<_>>()?;
    let mut body = b"WEBP".to_vec();
    if let [(_, picture)] = pictures.as_slice() {
        body.extend_from_slice(picture);
    } else {
        let flags = 0x02 | if frames.alpha { 0x10 } else { 0 };
        let mut header = vec![flags, 0, 0, 0];
        header.extend(u24(frames.width - 1));
        header.extend(u24(frames.height - 1));
        chunk(&mut body, b"VP8X", &[&header]);
        // No background, and again for ever.
        chunk(&mut body, b"ANIM", &[&[0; 6]]);
        for ((rect, picture), delay) in pictures.iter().zip(delays) {
            let mut header = Vec::with_capacity(16);
            for value in [rect.x / 2, rect.y / 2, rect.width - 1, rect.height - 1, delay.min(0xff_ffff)] {
                header.extend(u24(value));
            }
            // Pixels replace those below, transparency included.
            header.push(2);
            chunk(&mut body, b"ANMF", &[&header, picture]);
        }
    }
    let length = u32::try_from(body.len()).map_err(|_| Error::refused("a WebP file takes at most 4 GiB"))?;
    let parts = [&b"RIFF"[..], &length.to_le_bytes(), &body];
    parts.iter().try_for_each(|part| writer.write_all(part)).map_err(|e| Error::io("cannot write the WebP", e))
}

/// Makes a rectangle begin at even places, as WebP counts in twos.
fn even(rect: Rect) -> Rect {
    let (left, above) = (rect.x & 1, rect.y & 1);
    Rect { x: rect.x - left, y: rect.y - above, width: rect.width + left, height: rect.height + above }
}

/// The chunk `VP8L` of a part of a frame.
fn lossless(frames: &Frames, index: usize, rect: Rect) -> Result<Vec<u8>> {
    let (channels, colour) = if frames.alpha { (4, ColorType::Rgba8) } else { (3, ColorType::Rgb8) };
    let pixels = cut(&frames.frames[index], frames.width, rect, channels);
    let mut file = Vec::new();
    WebPEncoder::new(&mut file)
        .encode(&pixels, rect.width, rect.height, colour)
        .map_err(|e| Error::refused(format!("cannot write this as WebP: {e}")))?;
    // Without metadata the picture's chunk is all there is after the header.
    Ok(file.split_off(12))
}

fn u24(value: u32) -> impl Iterator<Item = u8> {
    value.to_le_bytes().into_iter().take(3)
}

/// A RIFF chunk with its padding.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], parts: &[&[u8]]) {
    let long: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(name);
    out.extend_from_slice(&(long as u32).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    if long % 2 == 1 {
        out.push(0);
    }
}
