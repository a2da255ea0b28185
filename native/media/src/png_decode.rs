//! PNG and APNG in.

use std::io::Cursor;

use png::{BitDepth, BlendOp, ColorType, Decoder, DisposeOp, Limits, OutputInfo, Transformations};

use crate::{
    Error, Result,
    canvas::{Blend, Canvas, Rect},
    limits,
    stream::{OnPicture, Picture, Seconds},
};

const FORMAT: &str = "PNG";

/// Any depth and colour type becomes 8-bit RGBA, 16 bits rounded. Gamma and colour profiles are not applied.
pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let bad = |e: png::DecodingError| Error::bad(FORMAT, e);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: limits::MAX_BYTES as usize });
    decoder.set_transformations(Transformations::EXPAND | Transformations::ALPHA);
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
        let rgba = rgba(&buffer, &output)?;
        on_picture(Picture { width, height, rgba: &rgba, duration: Seconds::NONE })?;
        return Ok(());
    };

    // A default image without a frame control chunk is shown only by viewers that know no animation.
    if reader.info().frame_control().is_none() {
        reader.next_frame(&mut buffer).map_err(bad)?;
    }
    let mut canvas = Canvas::new(width, height);
    for index in 0..count {
        let output = reader.next_frame(&mut buffer).map_err(bad)?;
        let control =
            *reader.info().frame_control().ok_or_else(|| Error::bad(FORMAT, "a frame has no control chunk"))?;
        let rect = Rect { x: control.x_offset, y: control.y_offset, width: control.width, height: control.height };
        rect.check(FORMAT, width, height)?;
        let pixels = rgba(&buffer, &output)?;
        // The first frame has nothing below it: "previous" then means "clear".
        let before = (control.dispose_op == DisposeOp::Previous && index > 0).then(|| canvas.pixels.clone());
        let blend = if control.blend_op == BlendOp::Over { Blend::Over } else { Blend::Source };
        canvas.draw(rect, &pixels, blend);
        let duration = delay(control.delay_num, control.delay_den);
        if !on_picture(Picture { width, height, rgba: &canvas.pixels, duration })? {
            return Ok(());
        }
        match (control.dispose_op, before) {
            (DisposeOp::Previous, Some(before)) => canvas.pixels = before,
            (DisposeOp::Background | DisposeOp::Previous, _) => canvas.clear(rect),
            (DisposeOp::None, _) => {}
        }
    }
    Ok(())
}

/// A denominator of 0 means hundredths (APNG specification).
pub(crate) fn delay(numerator: u16, denominator: u16) -> Seconds {
    Seconds::new(numerator.into(), if denominator == 0 { 100 } else { denominator.into() })
}

fn rgba(buffer: &[u8], output: &OutputInfo) -> Result<Vec<u8>> {
    let bytes = &buffer[..output.buffer_size()];
    match output.bit_depth {
        BitDepth::Sixteen => {
            // To the nearest: 65535 is 257 * 255.
            let rounded = |v: &[u8]| ((u32::from(u16::from_be_bytes([v[0], v[1]])) * 255 + 32_767) / 65_535) as u8;
            spread(&bytes.chunks_exact(2).map(rounded).collect::<Vec<_>>(), output.color_type)
        }
        _ => spread(bytes, output.color_type),
    }
}

fn spread(bytes: &[u8], colour: ColorType) -> Result<Vec<u8>> {
    Ok(match colour {
        ColorType::Rgba => bytes.to_vec(),
        ColorType::Rgb => bytes.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        ColorType::GrayscaleAlpha => bytes.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect(),
        ColorType::Grayscale => bytes.iter().flat_map(|&v| [v, v, v, 255]).collect(),
        ColorType::Indexed => return Err(Error::bad(FORMAT, "its palette is missing")),
    })
}

#[cfg(test)]
mod tests {
    use png::Encoder;

    use super::*;

    fn pixels(
        colour: ColorType,
        depth: BitDepth,
        data: &[u8],
        more: impl FnOnce(&mut Encoder<'_, &mut Vec<u8>>),
    ) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 3, 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        more(&mut encoder);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        let mut rgba = Vec::new();
        stream(&file, &mut |picture| {
            rgba.extend_from_slice(picture.rgba);
            Ok(true)
        })
        .unwrap();
        rgba
    }

    #[test]
    fn every_depth_becomes_8_bits_to_the_nearest() {
        let plain = |_: &mut Encoder<'_, &mut Vec<u8>>| {};
        // 128, 129 and 65,406 of 65,535 are 0.498, 0.502 and 254.498 of 255.
        let deep: Vec<u8> = [128u16, 129, 65_406].iter().flat_map(|v| v.to_be_bytes()).collect();
        let grey = pixels(ColorType::Grayscale, BitDepth::Sixteen, &deep, plain);
        assert_eq!(grey, [0, 0, 0, 255, 1, 1, 1, 255, 254, 254, 254, 255]);
        let key = |encoder: &mut Encoder<'_, &mut Vec<u8>>| encoder.set_trns(129u16.to_be_bytes().to_vec());
        // The transparent grey is compared in all 16 bits.
        assert_eq!(pixels(ColorType::Grayscale, BitDepth::Sixteen, &deep, key)[7], 0);
        let two = pixels(ColorType::Grayscale, BitDepth::Two, &[0b0001_1100], plain);
        assert_eq!([two[0], two[4], two[8]], [0, 85, 255]);
        let palette = |encoder: &mut Encoder<'_, &mut Vec<u8>>| {
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
            encoder.set_trns(vec![9]);
        };
        let indexed = pixels(ColorType::Indexed, BitDepth::One, &[0b0110_0000], palette);
        assert_eq!(indexed, [1, 2, 3, 9, 4, 5, 6, 255, 4, 5, 6, 255]);
    }
}
