//! JPEG in (ITU-T T.81): baseline and progressive, as libjpeg decodes it, to the bit.
//!
//! No decoder in safe Rust rounds as libjpeg does, and pictures that differ by what decoder read them are no evidence of
//! anything.

use crate::{
    Error, Result,
    jpeg_pixels::{Colour, Rows, inverse_transform},
    jpeg_scan::{Huffman, Scan},
    limits,
    stream::{OnPicture, Picture, Seconds},
};

pub(crate) const FORMAT: &str = "JPEG";

/// The most scans of a progressive picture; encoders write about ten.
const MOST_SCANS: usize = 64;

/// Where the coefficients of a block stand, in the order they are coded in.
#[rustfmt::skip]
pub(crate) const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

pub(crate) fn bad(what: impl std::fmt::Display) -> Error {
    Error::bad(FORMAT, what)
}

/// One component: its samples, in whole blocks.
#[derive(Debug)]
pub(crate) struct Component {
    pub id: u8,
    /// Samples in each direction where the whole picture's largest has [`Frame::most`].
    pub sampling: (usize, usize),
    pub table: usize,
    /// The table as it was when the component's first scan began.
    pub quantizers: Option<[u16; 64]>,
    /// Samples that belong to the picture.
    pub size: (usize, usize),
    /// Blocks in scans of this component alone, and stored: whole units of all components.
    pub blocks: (usize, usize),
    pub stored: (usize, usize),
    /// Of progressive pictures; those of others become samples at once.
    pub coefficients: Vec<[i16; 64]>,
    pub samples: Vec<u8>,
}

impl Component {
    /// Makes samples of a block's coefficients.
    pub(crate) fn transform(&mut self, block: (usize, usize), coefficients: &[i16; 64]) {
        let stride = self.stored.0 * 8;
        let Some(quantizers) = &self.quantizers else { return };
        inverse_transform(coefficients, quantizers, &mut self.samples[block.1 * 8 * stride + block.0 * 8..], stride);
    }
}

/// What the frame header says.
#[derive(Debug)]
pub(crate) struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    /// The largest sampling factors.
    pub most: (usize, usize),
    /// Units of all components, across and down.
    pub units: (usize, usize),
    pub components: Vec<Component>,
}

impl Frame {
    fn parse(marker: u8, segment: &[u8]) -> Result<Self> {
        let &[bits, h1, h0, w1, w0, count, ref parts @ ..] = segment else {
            return Err(bad("its frame header is cut short"));
        };
        let process = match marker {
            0xc0..=0xc2 => None,
            0xc3 => Some("it is lossless"),
            0xc5..=0xc7 | 0xcd..=0xcf => Some("it is hierarchical"),
            _ => Some("its coding is arithmetic"),
        };
        let why = process.map(str::to_owned).or_else(|| (bits != 8).then(|| format!("its samples have {bits} bits")));
        let why = why.or_else(|| (!matches!(count, 1 | 3 | 4)).then(|| format!("it has {count} components")));
        if let Some(why) = why {
            return Err(unsupported(&why));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        limits::check(FORMAT, width.into(), height.into(), 1)?;
        let (width, height) = (usize::from(width), usize::from(height));
        if parts.len() != 3 * usize::from(count) {
            return Err(bad("its frame header has not as many components as it says"));
        }
        let parts: Vec<[usize; 4]> = parts
            .chunks_exact(3)
            .map(|part| [part[0].into(), (part[1] >> 4).into(), (part[1] & 15).into(), part[2].into()])
            .collect();
        if parts
            .iter()
            .any(|&[_, across, down, table]| !(1..=4).contains(&across) || !(1..=4).contains(&down) || table > 3)
        {
            return Err(bad("its frame header makes no sense"));
        }
        let most = parts.iter().fold((1, 1), |most, part| (most.0.max(part[1]), most.1.max(part[2])));
        let units = (width.div_ceil(8 * most.0), height.div_ceil(8 * most.1));
        let mut components: Vec<Component> = Vec::new();
        for [id, across, down, table] in parts {
            if most.0 % across != 0 || most.1 % down != 0 {
                return Err(unsupported("its chroma is not sampled by whole numbers"));
            }
            if components.iter().any(|before| usize::from(before.id) == id) {
                return Err(bad("two components of it have one name"));
            }
            let size = ((width * across).div_ceil(most.0), (height * down).div_ceil(most.1));
            let stored = (units.0 * across, units.1 * down);
            components.push(Component {
                id: id as u8,
                sampling: (across, down),
                table,
                quantizers: None,
                size,
                blocks: (size.0.div_ceil(8), size.1.div_ceil(8)),
                stored,
                coefficients: Vec::new(),
                samples: Vec::new(),
            });
        }
        Ok(Self { width, height, progressive: marker == 0xc2, most, units, components })
    }

    fn allocate(&mut self) {
        for component in &mut self.components {
            let blocks = component.stored.0 * component.stored.1;
            component.samples = vec![0; blocks * 64];
            if self.progressive {
                component.coefficients = vec![[0; 64]; blocks];
            }
        }
    }
}

fn unsupported(why: &str) -> Error {
    Error::unsupported(FORMAT, format!("{why}; baseline and progressive pictures with 8 bits are"))
}

/// The tables that scans use, and what else is said between them.
#[derive(Default)]
struct Tables {
    quantizers: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    jfif: bool,
    adobe: Option<u8>,
}

impl Tables {
    fn read(&mut self, marker: u8, segment: &[u8]) -> Result<()> {
        match marker {
            0xdb => self.quantizers(segment)?,
            0xc4 => self.huffman(segment)?,
            0xdd => {
                let &[high, low] = segment else { return Err(bad("its restart interval is cut short")) };
                self.restart = u16::from_be_bytes([high, low]).into();
            }
            0xdc => return Err(unsupported("its height is said after its first scan")),
            0xe0 if segment.starts_with(b"JFIF\0") => self.jfif = true,
            0xee if segment.starts_with(b"Adobe") && segment.len() >= 12 => self.adobe = Some(segment[11]),
            _ => {}
        }
        Ok(())
    }

    fn quantizers(&mut self, mut segment: &[u8]) -> Result<()> {
        while let Some((&what, rest)) = segment.split_first() {
            let wide = what >> 4 != 0;
            let (table, rest) = rest
                .split_at_checked(if wide { 128 } else { 64 })
                .filter(|_| what >> 4 < 2 && what & 15 < 4)
                .ok_or_else(|| bad("a table of quantizers is cut short or makes no sense"))?;
            let mut quantizers = [0; 64];
            for (i, &place) in ZIGZAG.iter().enumerate() {
                quantizers[place] = match wide {
                    true => u16::from_be_bytes([table[2 * i], table[2 * i + 1]]),
                    false => table[i].into(),
                };
            }
            self.quantizers[usize::from(what & 15)] = Some(quantizers);
            segment = rest;
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<()> {
        while let Some((&what, rest)) = segment.split_first() {
            let tables = match what >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(bad("a Huffman table makes no sense")),
            };
            let place = tables.get_mut(usize::from(what & 15));
            let place = place.ok_or_else(|| bad("a Huffman table makes no sense"))?;
            let (table, rest) = Huffman::parse(rest)?;
            *place = Some(table);
            segment = rest;
        }
        Ok(())
    }

    /// As libjpeg guesses.
    fn colour(&self, components: &[Component]) -> Colour {
        let ids: Vec<u8> = components.iter().map(|component| component.id).collect();
        match (components.len(), self.adobe) {
            (1, _) => Colour::Grey,
            (3, Some(0)) if !self.jfif => Colour::Rgb,
            (3, None) if !self.jfif && ids == *b"RGB" => Colour::Rgb,
            (3, _) => Colour::YCbCr,
            (_, None | Some(0)) => Colour::Cmyk,
            _ => Colour::Ycck,
        }
    }
}

/// Segments one after the other: each marker and what follows it.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2 }
    }

    /// The next marker but restart markers, and its segment; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>> {
        loop {
            // What lies before a marker is passed over, as libjpeg does.
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(start) = rest.iter().position(|&byte| byte == 0xff) else { return Ok(None) };
            self.at += start;
            let Some(&marker) = self.bytes.get(self.at + 1) else { return Ok(None) };
            self.at += if marker == 0xff { 1 } else { 2 };
            match marker {
                0x00 | 0x01 | 0xd0..=0xd8 | 0xff => {}
                0xd9 => return Ok(Some((marker, &[]))),
                _ => break,
            }
        }
        let marker = self.bytes[self.at - 1];
        let rest = &self.bytes[self.at..];
        let length = match rest {
            &[high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        if length < 2 || length > rest.len() {
            return Err(bad(format_args!("the segment of marker {marker:#04x} is cut short")));
        }
        self.at += length;
        Ok(Some((marker, &rest[2..length])))
    }

    /// Reads up to the frame header.
    fn frame(&mut self, tables: &mut Tables) -> Result<Frame> {
        while let Some((marker, segment)) = self.next()? {
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Frame::parse(marker, segment),
                0xd9 | 0xda => break,
                _ => tables.read(marker, segment)?,
            }
        }
        Err(bad("it holds no picture"))
    }
}

/// Width and height.
pub(crate) fn size(bytes: &[u8]) -> Result<(u32, u32)> {
    let frame = Segments::of(bytes).frame(&mut Tables::default())?;
    Ok((frame.width as u32, frame.height as u32))
}

/// Grey, YCbCr, RGB, CMYK and YCCK, baseline and progressive, become RGB. Embedded colour profiles are not applied.
pub(crate) fn stream(bytes: &[u8], on_picture: OnPicture<'_>) -> Result<()> {
    let mut tables = Tables::default();
    let mut segments = Segments::of(bytes);
    let mut frame = segments.frame(&mut tables)?;
    frame.allocate();
    let (mut scans, mut ended) = (0, false);
    while let Some((marker, segment)) = segments.next()? {
        match marker {
            0xd9 => {
                ended = true;
                break;
            }
            0xda => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(bad(format_args!("it has more than {MOST_SCANS} scans")));
                }
                let scan = Scan::parse(segment, &mut frame, &tables.quantizers)?;
                segments.at +=
                    scan.decode(&bytes[segments.at..], &mut frame, (&tables.dc, &tables.ac), tables.restart)?;
            }
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Err(bad("it has two frame headers")),
            _ => tables.read(marker, segment)?,
        }
    }
    // Without its end, a progressive picture may want for scans that nothing else speaks of.
    let started = frame.components.iter().all(|component| component.quantizers.is_some());
    if !started || (frame.progressive && !ended) {
        return Err(bad("its pixels are cut short"));
    }
    if frame.progressive {
        for component in &mut frame.components {
            let across = component.stored.0;
            for (i, block) in std::mem::take(&mut component.coefficients).iter().enumerate() {
                component.transform((i % across, i / across), block);
            }
        }
    }
    let rgba = Rows::of(&frame, tables.colour(&frame.components)).rgba();
    on_picture(Picture {
        width: frame.width as u32,
        height: frame.height as u32,
        rgba: &rgba,
        duration: Seconds::NONE,
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: &[u8] = include_bytes!("../../../tests/media/fixtures/jpeg_422.jpg");
    const PROGRESSIVE: &[u8] = include_bytes!("../../../tests/media/fixtures/jpeg_cmyk.jpg");

    fn pixels(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut pixels = Vec::new();
        stream(bytes, &mut |picture| {
            pixels.extend_from_slice(picture.rgba);
            Ok(false)
        })?;
        Ok(pixels)
    }

    /// With another byte in the frame header, which starts with the marker.
    fn changed(file: &[u8], marker: u8, at: usize, byte: u8) -> Vec<u8> {
        let start = file.windows(2).position(|window| window == [0xff, marker]).unwrap();
        let mut file = file.to_vec();
        file[start + at] = byte;
        file
    }

    #[test]
    fn what_is_not_decoded_is_named() {
        for (at, byte, name) in [
            (4, 12, "its samples have 12 bits"),
            (1, 0xc3, "it is lossless"),
            (1, 0xc5, "it is hierarchical"),
            (1, 0xc9, "its coding is arithmetic"),
            (1, 0xca, "its coding is arithmetic"),
        ] {
            let file = changed(BASELINE, 0xc0, at, byte);
            for error in [pixels(&file).unwrap_err(), size(&file).unwrap_err()] {
                assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn nothing_is_missing_unnoticed() {
        for file in [BASELINE, PROGRESSIVE] {
            let whole = pixels(file).unwrap();
            for end in (0..file.len() - 2).step_by(3) {
                assert!(pixels(&file[..end]).is_err(), "{end}");
            }
            // What comes after the end does not matter.
            assert_eq!(pixels(&[file, b"more"].concat()).unwrap(), whole);
        }
        // A picture that is all there needs no end; of a progressive one nobody can tell.
        let whole = pixels(BASELINE).unwrap();
        assert_eq!(pixels(&BASELINE[..BASELINE.len() - 2]).unwrap(), whole);
        assert!(pixels(&PROGRESSIVE[..PROGRESSIVE.len() - 2]).is_err());
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        for (marker, at, byte) in
            [(0xc0, 9, 2), (0xc0, 11, 0x05), (0xc0, 12, 7), (0xc0, 6, 0xff), (0xda, 4, 9), (0xda, 5, 9)]
        {
            assert!(pixels(&changed(BASELINE, marker, at, byte)).is_err(), "{marker:#x} {at}");
        }
        let double = [&BASELINE[..BASELINE.len() - 2], &BASELINE[2..]].concat();
        assert!(pixels(&double).unwrap_err().to_string().contains("two frame headers"));
    }
}
