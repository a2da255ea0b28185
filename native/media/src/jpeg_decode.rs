//! JPEG in.

use std::io::Cursor;

use zune_jpeg::{
    JpegDecoder,
    zune_core::{colorspace::ColorSpace, options::DecoderOptions},
};

use crate::{
    Error, Result, limits,
    stream::{OnPicture, Picture, Seconds},
};

const FORMAT: &str = "JPEG";

/// The most scans of a progressive picture; encoders write about ten.
const MOST_SCANS: usize = 64;

type Decoder<'a> = JpegDecoder<Cursor<&'a [u8]>>;

/// A decoder that has read the headers, and the picture's size.
fn decoder(bytes: &[u8]) -> Result<(Decoder<'_>, (u32, u32))> {
    let options = DecoderOptions::new_safe()
        .set_max_width(limits::MAX_SIDE as usize)
        .set_max_height(limits::MAX_SIDE as usize)
        .jpeg_set_max_scans(MOST_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| Error::bad(FORMAT, e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| Error::bad(FORMAT, "it holds no picture"))?;
    let (width, height) = (width as u32, height as u32);
    limits::check(FORMAT, width, height, 1)?;
    Ok((decoder, (width, height)))
}

/// Width and height.
pub(crate) fn size(bytes: &[u8]) -> Result<(u32, u32)> {
    Ok(decoder(bytes)?.1)
}

/// Grey, YCbCr, RGB, CMYK and YCCK, baseline and progressive, become RGB. Embedded colour profiles are not applied.
pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let (mut decoder, (width, height)) = decoder(bytes)?;
    let rgb = decoder.decode().map_err(|e| Error::bad(FORMAT, e))?;
    let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    if rgba.len() != width as usize * height as usize * 4 {
        return Err(Error::bad(FORMAT, "its pixels are cut short"));
    }
    on_picture(Picture { width, height, rgba: &rgba, duration: Seconds::NONE })?;
    Ok(())
}
