//! PNG and APNG out.

use std::io::Write;

use png::{BitDepth, ColorType, Compression, DisposeOp, Encoder, EncodingError};

use crate::{Error, Frames, Progress, Result, Seconds, Timing, canvas::Rect, gif_encode::changed, progress::Steps};

pub(crate) fn encode(frames: &Frames, timing: &Timing, writer: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
    let count = frames.frames.len();
    let steps = Steps::new(count, progress);
    let channels = if frames.alpha { 4 } else { 3 };
    let mut encoder = Encoder::new(writer, frames.width, frames.height);
    encoder.set_color(if frames.alpha { ColorType::Rgba } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    if count == 1 {
        let mut out = encoder.write_header().map_err(failed)?;
        let whole = Rect { x: 0, y: 0, width: frames.width, height: frames.height };
        out.write_image_data(&cut(&frames.frames[0], frames.width, whole, channels)).map_err(failed)?;
        steps.one()?;
        return out.finish().map_err(failed);
    }
    let delays = fractions(timing, count)?;
    encoder.set_animated(count as u32, 0).map_err(failed)?;
    encoder.set_dispose_op(DisposeOp::None).map_err(failed)?;
    let mut out = encoder.write_header().map_err(failed)?;
    for (index, frame) in frames.frames.iter().enumerate() {
        // Only what changed is stored; every frame but the first lies over the one before it.
        let rect = match index {
            0 => Rect { x: 0, y: 0, width: frames.width, height: frames.height },
            _ => changed(&frames.frames[index - 1], frame, frames.width, 4),
        };
        if index > 0 {
            // The position goes back to 0 first, so that no intermediate state leaves the canvas.
            out.reset_frame_position().map_err(failed)?;
            out.set_frame_dimension(rect.width, rect.height).map_err(failed)?;
            out.set_frame_position(rect.x, rect.y).map_err(failed)?;
        }
        out.set_frame_delay(delays[index].0, delays[index].1).map_err(failed)?;
        out.write_image_data(&cut(frame, frames.width, rect, channels)).map_err(failed)?;
        steps.one()?;
    }
    out.finish().map_err(failed)
}

/// Delays as fractions of a second: exact where both parts fit into 16 bits, else in milliseconds, the remainder carried.
fn fractions(timing: &Timing, count: usize) -> Result<Vec<(u16, u16)>> {
    let exact = |d: &Seconds| Some((u16::try_from(d.ticks).ok()?, u16::try_from(d.per_second).ok()?));
    let exact: Option<Vec<_>> = timing.durations(count)?.iter().map(exact).collect();
    if let Some(exact) = exact {
        return Ok(exact);
    }
    let rounded = timing
        .parts(count, 1000)?
        .into_iter()
        .map(|ms| u16::try_from(ms).map_or((u16::try_from(ms / 10).unwrap_or(u16::MAX), 100), |ms| (ms, 1000)));
    Ok(rounded.collect())
}

/// A rectangle of an RGBA frame, in so many of its channels.
pub(crate) fn cut(rgba: &[u8], width: u32, rect: Rect, channels: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(rect.width as usize * rect.height as usize * channels);
    for y in rect.y..rect.y + rect.height {
        let start = (y as usize * width as usize + rect.x as usize) * 4;
        for p in rgba[start..start + rect.width as usize * 4].chunks_exact(4) {
            pixels.extend_from_slice(&p[..channels]);
        }
    }
    pixels
}

fn failed(e: EncodingError) -> Error {
    match e {
        EncodingError::IoError(source) => Error::io("cannot write the PNG", source),
        other => Error::refused(format!("cannot write this as PNG: {other}")),
    }
}
