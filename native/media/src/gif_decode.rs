//! GIF in.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DisposalMethod, MemoryLimit};

use crate::{
    Error, Result,
    canvas::{Blend, Canvas, Rect},
    limits,
    stream::{OnPicture, Picture, Seconds},
};

const FORMAT: &str = "GIF";

pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let bad = |e: gif::DecodingError| Error::bad(FORMAT, e);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    options.set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(limits::MAX_BYTES).unwrap_or(NonZeroU64::MIN)));
    let mut decoder = options.read_info(bytes).map_err(bad)?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    limits::check(FORMAT, width, height, 1)?;

    let mut canvas = Canvas::new(width, height);
    let mut count = 0;
    while let Some(frame) = decoder.read_next_frame().map_err(bad)? {
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
        count += 1;
        let duration = Seconds::new(frame.delay.into(), 100);
        if !on_picture(Picture { width, height, rgba: &canvas.pixels, duration })? {
            return Ok(());
        }
        match (frame.dispose, before) {
            (DisposalMethod::Previous, Some(before)) => canvas.pixels = before,
            (DisposalMethod::Background, _) => canvas.clear(rect),
            _ => {}
        }
    }
    if count == 0 {
        return Err(Error::bad(FORMAT, "it holds no picture"));
    }
    Ok(())
}
