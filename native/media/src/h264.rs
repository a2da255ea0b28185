//! What H.264's parameter sets say (ITU-T H.264, 7.3.2.1.1 and Annex E), read before anything is decoded.

use crate::{
    Error, Result,
    yuv::{Colours, Matrix},
};

pub(crate) const FORMAT: &str = "H.264";

/// A sequence parameter set, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sps {
    pub profile: u8,
    /// Size in pixels, after cropping.
    pub width: u32,
    pub height: u32,
    pub colours: Colours,
    chroma_format: u32,
    depth: u32,
    /// Whether something is cropped at the left or top.
    shifted: bool,
    /// Whether frames may be coded as two fields, macroblock by macroblock (MBAFF).
    interlaced: bool,
}

impl Sps {
    /// Parses a NAL unit of type 7, its header byte included.
    pub(crate) fn parse(nal: &[u8]) -> Result<Self> {
        Self::read(nal).ok_or_else(|| Error::bad(FORMAT, "its sequence parameter set is cut short or makes no sense"))
    }

    fn read(nal: &[u8]) -> Option<Self> {
        let bytes = unescaped(nal.get(1..)?);
        let mut bits = Bits { bytes: &bytes, at: 0 };
        let profile = bits.take(8)? as u8;
        bits.take(16)?;
        bits.ue()?;
        let (mut chroma_format, mut depth) = (1, 8);
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format = bits.ue()?;
            if chroma_format == 3 {
                bits.take(1)?;
            }
            depth = (8 + bits.ue()?).max(8 + bits.ue()?);
            bits.take(1)?;
            if bits.take(1)? == 1 {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.take(1)? == 1 {
                        scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.ue()?;
        match bits.ue()? {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.take(1)?;
                bits.ue()?;
                bits.ue()?;
                let cycle = bits.ue().filter(|&n| n <= 255)?;
                for _ in 0..cycle {
                    bits.ue()?;
                }
            }
            _ => {}
        }
        bits.ue()?;
        bits.take(1)?;
        let side = |blocks: u32| blocks.checked_add(1).filter(|&n| n <= 1 << 12).map(|n| n * 16);
        let width = side(bits.ue()?)?;
        let map_height = side(bits.ue()?)?;
        let frames_only = bits.take(1)? == 1;
        let interlaced = !frames_only && bits.take(1)? == 1;
        let height = if frames_only { map_height } else { map_height * 2 };
        bits.take(1)?;
        let mut crop = [0; 4];
        if bits.take(1)? == 1 {
            for side in &mut crop {
                *side = bits.ue().filter(|&n| n < 1 << 16)?;
            }
        }
        let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma_format == 1 { 2 } else { 1 } * if frames_only { 1 } else { 2 };
        let [left, right, top, bottom] = crop;
        let width = width.checked_sub((left + right) * unit_x).filter(|&n| n > 0)?;
        let height = height.checked_sub((top + bottom) * unit_y).filter(|&n| n > 0)?;
        let colours = if bits.take(1)? == 1 { vui_colours(&mut bits)? } else { Colours::USUAL };
        let shifted = left > 0 || top > 0;
        Some(Self { profile, width, height, colours, chroma_format, depth, shifted, interlaced })
    }

    /// Refuses what is not decoded: more than 8 bits, other than 4:2:0, other profiles than Baseline, Main and High, fields.
    pub(crate) fn check(&self) -> Result<()> {
        let name = match self.profile {
            66 => "Baseline",
            77 => "Main",
            88 => "Extended",
            100 => "High",
            110 => "High 10",
            122 => "High 4:2:2",
            244 => "High 4:4:4 Predictive",
            44 => "CAVLC 4:4:4 Intra",
            83 | 86 => "Scalable",
            118 | 128 | 134 | 138 | 139 => "Multiview",
            _ => "unknown",
        };
        let sampling = ["4:0:0", "4:2:0", "4:2:2", "4:4:4"].get(self.chroma_format as usize).unwrap_or(&"unknown");
        let what = if !matches!(self.profile, 66 | 77 | 100 | 110) || self.depth != 8 || self.chroma_format != 1 {
            format!("its profile is {name} (profile_idc {}), {} bits, {sampling}", self.profile, self.depth)
        } else if self.interlaced {
            "its pictures are interlaced (MBAFF)".to_owned()
        } else if self.shifted {
            "its pictures are cropped at the left or top".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::unsupported(
            FORMAT,
            format!("{what}; Baseline, Main and High with 8 bits, 4:2:0 and whole frames are"),
        ))
    }
}

fn scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(bits.se()?) + 256).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// The first fields of the VUI.
fn vui_colours(bits: &mut Bits<'_>) -> Option<Colours> {
    if bits.take(1)? == 1 && bits.take(8)? == 255 {
        bits.take(32)?;
    }
    if bits.take(1)? == 1 {
        bits.take(1)?;
    }
    let mut colours = Colours::USUAL;
    if bits.take(1)? == 1 {
        bits.take(3)?;
        colours.full_range = bits.take(1)? == 1;
        if bits.take(1)? == 1 {
            bits.take(16)?;
            colours.matrix = matrix(bits.take(8)?);
        }
    }
    Some(colours)
}

/// A matrix by its number in ISO/IEC 23091-2; what is not said or not known is BT.601.
pub(crate) fn matrix(number: u32) -> Matrix {
    match number {
        1 => Matrix::BT709,
        9 | 10 => Matrix::BT2020,
        _ => Matrix::BT601,
    }
}

/// Takes out the bytes 3 that keep a NAL unit from holding a start code.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1u64 << zeros) - 1 + u64::from(self.take(zeros)?)) as u32)
    }

    /// A signed one.
    fn se(&mut self) -> Option<i32> {
        let n = i64::from(self.ue()?);
        Some(if n % 2 == 1 { (n + 1) / 2 } else { -n / 2 } as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers_are_read() {
        // 1 010 011 00100 00101, as in the standard's table 9-2.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits { bytes: &bytes, at: 0 };
        assert_eq!([0; 5].map(|_| bits.ue().unwrap()), [0, 1, 2, 3, 4]);
        let mut bits = Bits { bytes: &bytes, at: 0 };
        assert_eq!([0; 5].map(|_| bits.se().unwrap()), [0, 1, -1, 2, -2]);
        assert_eq!(Bits { bytes: &[0; 9], at: 0 }.ue(), None);
        assert_eq!(unescaped(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), [0, 0, 1, 0, 0, 0, 0]);
    }
}
