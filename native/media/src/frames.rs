use crate::{Error, Result, canvas::over, limits};

/// A picture or an animation: whole frames of 8-bit straight RGBA, rows from the top.
///
/// A still is an animation of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// Pixels a row, 1..=8192.
    pub width: u32,
    /// Rows, 1..=8192.
    pub height: u32,
    /// One `width * height * 4` buffer a frame.
    pub frames: Vec<Vec<u8>>,
    /// How long each frame stays, in milliseconds as the file says (0 in a still).
    pub delays_ms: Vec<u32>,
    /// Whether any pixel is not fully opaque.
    pub alpha: bool,
}

impl Frames {
    /// Opaque frames from packed RGB (`width * height * 3` bytes a frame), without delays.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no frame, a frame has another length, or the size is past the [`limits`].
    pub fn from_rgb(width: u32, height: u32, frames: &[impl AsRef<[u8]>]) -> Result<Self> {
        if frames.is_empty() {
            return Err(Error::refused("a picture needs at least one frame"));
        }
        limits::check("picture", width, height, frames.len() as u64).map_err(|e| Error::refused(e.to_string()))?;
        let wanted = width as usize * height as usize * 3;
        let rgba = frames
            .iter()
            .map(|rgb| {
                let rgb = rgb.as_ref();
                if rgb.len() != wanted {
                    return Err(Error::refused(format!(
                        "a {width}x{height} RGB frame takes {wanted} bytes, not {}",
                        rgb.len()
                    )));
                }
                Ok(rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect())
            })
            .collect::<Result<Vec<Vec<u8>>>>()?;
        Ok(Self { width, height, delays_ms: vec![0; rgba.len()], frames: rgba, alpha: false })
    }

    /// Frame `index` over a white ground, as packed RGB.
    ///
    /// # Panics
    /// When there is no such frame.
    #[must_use]
    pub fn on_white(&self, index: usize) -> Vec<u8> {
        self.frames[index].chunks_exact(4).flat_map(|p| over_white([p[0], p[1], p[2], p[3]])).collect()
    }

    pub(crate) fn find_alpha(frames: &[Vec<u8>]) -> bool {
        frames.iter().any(|f| f.chunks_exact(4).any(|p| p[3] != 255))
    }
}

/// One straight RGBA pixel over white.
#[must_use]
pub fn over_white(pixel: [u8; 4]) -> [u8; 3] {
    if pixel[3] == 255 {
        return [pixel[0], pixel[1], pixel[2]];
    }
    let p = over(pixel, [255; 4]);
    [p[0], p[1], p[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_is_white_and_opaque_is_itself() {
        assert_eq!(over_white([9, 8, 7, 0]), [255; 3]);
        assert_eq!(over_white([9, 8, 7, 255]), [9, 8, 7]);
        assert_eq!(over_white([255, 255, 255, 77]), [255; 3]);
        let half = over_white([0, 100, 200, 128]);
        assert_eq!(half, [127, 177, 227]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(Frames::from_rgb(2, 2, &[vec![0; 11]]).is_err());
        assert!(Frames::from_rgb(2, 2, &Vec::<Vec<u8>>::new()).is_err());
        assert!(Frames::from_rgb(9000, 1, &[vec![0; 27000]]).is_err());
    }
}
