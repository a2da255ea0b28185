//! PNG and APNG in.

use std::io::Cursor;

use png::{BlendOp, ColorType, Decoder, DisposeOp, Limits, Transformations};

use crate::{
    Error, Frames, Result,
    canvas::{Blend, Canvas, Rect},
    limits,
};

const FORMAT: &str = "PNG";

pub(crate) fn decode(bytes: &[u8]) -> Result<Frames> {
    let bad = |e: png::DecodingError| Error::bad(FORMAT, e);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: limits::MAX_BYTES as usize });
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(bad)?;
    let (width, height) = (header.width, header.height);
    limits::check(FORMAT, width, height, 1)?;
    let mut reader = decoder.read_info().map_err(bad)?;

    let size = reader.output_buffer_size().ok_or_else(|| Error::bad(FORMAT, "it is too large"))?;
    let mut buffer = vec![0; size];
    let announced = reader.info().animation_control().map(|a| a.num_frames);
    let Some(count) = announced.filter(|&n| n > 0) else {
        let output = reader.next_frame(&mut buffer).map_err(bad)?;
        let frames = vec![rgba(&buffer[..output.buffer_size()], output.color_type)?];
        return Ok(Frames { width, height, alpha: Frames::find_alpha(&frames), frames, delays_ms: vec![0] });
    };
    limits::check(FORMAT, width, height, u64::from(count))?;

    // A default image without a frame control chunk is shown only by viewers that know no animation.
    if reader.info().frame_control().is_none() {
        reader.next_frame(&mut buffer).map_err(bad)?;
    }
    let mut canvas = Canvas::new(width, height);
    let mut frames = Vec::new();
    let mut delays_ms = Vec::new();
    for index in 0..count {
        let output = reader.next_frame(&mut buffer).map_err(bad)?;
        let control =
            *reader.info().frame_control().ok_or_else(|| Error::bad(FORMAT, "a frame has no control chunk"))?;
        let rect = Rect { x: control.x_offset, y: control.y_offset, width: control.width, height: control.height };
        rect.check(FORMAT, width, height)?;
        let pixels = rgba(&buffer[..output.buffer_size()], output.color_type)?;
        // The first frame has nothing below it: "previous" then means "clear".
        let before = (control.dispose_op == DisposeOp::Previous && index > 0).then(|| canvas.pixels.clone());
        let blend = if control.blend_op == BlendOp::Over { Blend::Over } else { Blend::Source };
        canvas.draw(rect, &pixels, blend);
        frames.push(canvas.pixels.clone());
        delays_ms.push(delay(control.delay_num, control.delay_den));
        match (control.dispose_op, before) {
            (DisposeOp::Previous, Some(before)) => canvas.pixels = before,
            (DisposeOp::Background | DisposeOp::Previous, _) => canvas.clear(rect),
            (DisposeOp::None, _) => {}
        }
    }
    Ok(Frames { width, height, alpha: Frames::find_alpha(&frames), frames, delays_ms })
}

/// A denominator of 0 means hundredths (APNG specification).
pub(crate) fn delay(numerator: u16, denominator: u16) -> u32 {
    let denominator = if denominator == 0 { 100.0 } else { f64::from(denominator) };
    (f64::from(numerator) * 1000.0 / denominator).round() as u32
}

fn rgba(bytes: &[u8], colour: ColorType) -> Result<Vec<u8>> {
    Ok(match colour {
        ColorType::Rgba => bytes.to_vec(),
        ColorType::Rgb => bytes.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        ColorType::GrayscaleAlpha => bytes.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect(),
        ColorType::Grayscale => bytes.iter().flat_map(|&v| [v, v, v, 255]).collect(),
        ColorType::Indexed => return Err(Error::bad(FORMAT, "its palette is missing")),
    })
}
