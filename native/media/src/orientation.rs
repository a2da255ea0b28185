//! EXIF orientation: where cameras write which side of a picture is up.

use crate::{Container, mp4_decode};

/// How a stored picture is turned to be shown: 1..=8 as in EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation(u8);

/// Tag of the orientation in a TIFF directory.
const TAG: u16 = 0x0112;

impl Orientation {
    /// Shown as it is stored.
    pub const UPRIGHT: Self = Self(1);
    /// Turned to the right by a quarter.
    pub const QUARTER_RIGHT: Self = Self(6);
    /// Upside down.
    pub const HALF: Self = Self(3);
    /// Turned to the left by a quarter.
    pub const QUARTER_LEFT: Self = Self(8);

    /// Reads the orientation of a PNG (`eXIf`), JPEG (`APP1`), WebP (`EXIF`) or MP4 (`tkhd`) file; [`Orientation::UPRIGHT`] where
    /// there is none, or none that makes sense.
    #[must_use]
    pub fn of(container: Container, bytes: &[u8]) -> Self {
        let exif = match container {
            Container::Png => png_exif(bytes),
            Container::Jpeg => jpeg_exif(bytes),
            Container::WebP => webp_exif(bytes),
            Container::Mp4 => return mp4_decode::orientation(bytes),
            Container::Gif | Container::Y4m => None,
        };
        exif.and_then(tiff_orientation).map_or(Self::UPRIGHT, Self)
    }

    /// Whether width and height change places.
    #[must_use]
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Writes the turned picture of straight RGBA into `out` and gives its size.
    ///
    /// # Panics
    /// When `rgba` is not `size.0 * size.1 * 4` long.
    pub fn turn(self, rgba: &[u8], size: (u32, u32), out: &mut Vec<u8>) -> (u32, u32) {
        let (width, height) = (size.0 as usize, size.1 as usize);
        assert_eq!(rgba.len(), width * height * 4);
        let (new_width, new_height) = if self.swaps_sides() { (height, width) } else { (width, height) };
        out.clear();
        out.reserve(rgba.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (left, top) = match self.0 {
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    8 => (width - 1 - y, x),
                    _ => (x, y),
                };
                out.extend_from_slice(&rgba[(top * width + left) * 4..][..4]);
            }
        }
        (new_width as u32, new_height as u32)
    }
}

fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let long = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let name = rest.get(4..8)?;
        let body = rest.get(8..)?.get(..long)?;
        if name == b"eXIf" {
            return Some(body);
        }
        rest = rest.get(8 + long..)?.get(4..)?;
    }
}

fn jpeg_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(2..)?;
    loop {
        if *rest.first()? != 0xff {
            return None;
        }
        let marker = *rest.get(1)?;
        match marker {
            0xff => rest = &rest[1..],
            // Whatever follows the first scan comes too late for a viewer.
            0xda | 0xd9 => return None,
            0x01 | 0xd0..=0xd8 => rest = &rest[2..],
            _ => {
                let long = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
                let body = rest.get(4..2 + long.max(2))?;
                if marker == 0xe1 && body.starts_with(b"Exif\0\0") {
                    return Some(&body[6..]);
                }
                rest = rest.get(2 + long.max(2)..)?;
            }
        }
    }
}

fn webp_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(12..)?;
    loop {
        let name = rest.get(..4)?;
        let long = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
        let body = rest.get(8..)?.get(..long)?;
        if name == b"EXIF" {
            // Some writers put JPEG's prefix before it.
            return Some(body.strip_prefix(b"Exif\0\0").unwrap_or(body));
        }
        rest = rest.get(8 + long + (long & 1)..)?;
    }
}

/// The orientation in the first directory of a TIFF structure.
fn tiff_orientation(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let two: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let four: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
    let directory = if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) } as usize;
    let entries = usize::from(u16_at(directory)?);
    for entry in 0..entries {
        let at = directory.checked_add(2 + entry * 12)?;
        if u16_at(at)? == TAG {
            // A SHORT (type 3) stands at the start of the value's 4 bytes in either byte order.
            return u16_at(at + 8)
                .filter(|_| u16_at(at + 2) == Some(3))
                .filter(|o| (1..=8).contains(o))
                .map(|o| o as u8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF structure with one entry.
    fn tiff(orientation: u16, little: bool) -> Vec<u8> {
        let two = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let four = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        [
            if little { &b"II*\0"[..] } else { b"MM\0*" },
            &four(8),
            &two(1),
            &two(TAG),
            &two(3),
            &four(1),
            &two(orientation),
            &[0; 2],
            &[0; 4],
        ]
        .concat()
    }

    #[test]
    fn orientations_are_read_in_both_byte_orders_and_only_if_sound() {
        for little in [false, true] {
            for wanted in 1..=8 {
                assert_eq!(tiff_orientation(&tiff(wanted, little)), Some(wanted as u8));
            }
            assert_eq!(tiff_orientation(&tiff(9, little)), None);
            let whole = tiff(6, little);
            for end in 0..whole.len() - 6 {
                assert_eq!(tiff_orientation(&whole[..end]), None);
            }
        }
        assert_eq!(tiff_orientation(b"MM\0*\xff\xff\xff\xff"), None);
    }

    /// EXIF's own words: which side of the stored picture its first row and first column are when shown.
    #[test]
    fn each_orientation_brings_the_first_row_and_column_where_exif_says() {
        // Stored: 1 2 3 over 4 5 6.
        let stored: Vec<u8> = (1..=6u8).flat_map(|v| [v, v, v, 255]).collect();
        let shown = |orientation: u8| {
            let mut out = Vec::new();
            let size = Orientation(orientation).turn(&stored, (3, 2), &mut out);
            (size, out.chunks_exact(4).map(|p| p[0]).collect::<Vec<_>>())
        };
        assert_eq!(shown(1), ((3, 2), vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(shown(2), ((3, 2), vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(shown(3), ((3, 2), vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(shown(4), ((3, 2), vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(shown(5), ((2, 3), vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(shown(6), ((2, 3), vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(shown(7), ((2, 3), vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(shown(8), ((2, 3), vec![3, 6, 2, 5, 1, 4]));
    }

    #[test]
    fn the_block_is_found_in_each_container() {
        let exif = tiff(6, false);
        let chunk = [&(exif.len() as u32).to_be_bytes()[..], b"eXIf", &exif, &[0; 4]].concat();
        let png = [&b"\x89PNG\r\n\x1a\n"[..], &[0, 0, 0, 1], b"IHDR", &[7], &[0; 4], &chunk].concat();
        let segment = [&b"\xff\xe1"[..], &(exif.len() as u16 + 8).to_be_bytes(), b"Exif\0\0", &exif].concat();
        let jpeg = [&b"\xff\xd8\xff\xe0\0\x04ab"[..], &segment, b"\xff\xda"].concat();
        let webp =
            [&b"RIFF\0\0\0\0WEBPVP8X\x03\0\0\0abc\0EXIF"[..], &(exif.len() as u32).to_le_bytes(), &exif].concat();
        for (container, file) in [(Container::Png, png), (Container::Jpeg, jpeg), (Container::WebP, webp)] {
            assert_eq!(Orientation::of(container, &file), Orientation(6), "{container:?}");
            for end in 0..file.len() {
                let _ = Orientation::of(container, &file[..end]);
            }
        }
    }
}
