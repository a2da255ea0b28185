//! GIF in.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DisposalMethod, MemoryLimit};

use crate::{
    Error, Frames, Result,
    canvas::{Blend, Canvas, Rect},
    limits,
};

const FORMAT: &str = "GIF";

pub(crate) fn decode(bytes: &[u8]) -> Result<Frames> {
    let bad = |e: gif::DecodingError| Error::bad(FORMAT, e);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    options.set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(limits::MAX_BYTES).unwrap_or(NonZeroU64::MIN)));
    let mut decoder = options.read_info(bytes).map_err(bad)?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    limits::check(FORMAT, width, height, 1)?;

    let mut canvas = Canvas::new(width, height);
    let mut frames = Vec::new();
    let mut delays_ms = Vec::new();
    while let Some(frame) = decoder.read_next_frame().map_err(bad)? {
        limits::check(FORMAT, width, height, frames.len() as u64 + 1)?;
        let rect = Rect {
            x: u32::from(frame.left),
            y: u32::from(frame.top),
            width: u32::from(frame.width),
            height: u32::from(frame.height),
        };
        rect.check(FORMAT, width, height)?;
        if frame.buffer.len() < rect.width as usize * rect.height as usize * 4 {
            return Err(Error::bad(FORMAT, "a frame is cut short"));
        }
        let before = (frame.dispose == DisposalMethod::Previous).then(|| canvas.pixels.clone());
        canvas.draw(rect, &frame.buffer, Blend::Over);
        frames.push(canvas.pixels.clone());
        delays_ms.push(u32::from(frame.delay) * 10);
        match (frame.dispose, before) {
            (DisposalMethod::Previous, Some(before)) => canvas.pixels = before,
            (DisposalMethod::Background, _) => canvas.clear(rect),
            _ => {}
        }
    }
    if frames.is_empty() {
        return Err(Error::bad(FORMAT, "it holds no picture"));
    }
    Ok(Frames { width, height, alpha: Frames::find_alpha(&frames), frames, delays_ms })
}
