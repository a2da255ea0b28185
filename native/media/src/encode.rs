use std::{
    io::{BufWriter, Write},
    path::Path,
};

use crate::{AtomicFile, Error, Frames, Progress, Result, gif_encode, png_encode};

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Animated GIF: 255 colours and one palette for all frames; transparency becomes white.
    Gif,
    /// PNG for one frame, APNG for more: exact.
    Png,
}

impl Format {
    /// By the extension of a path, `.gif`, `.png` or `.apng`, in any case.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the accepted extensions.
    pub fn of_path(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        Self::of_name(&extension)
            .map_err(|_| Error::refused(format!("{}: the name must end in .gif, .png or .apng", path.display())))
    }

    /// By name: `"gif"`, `"png"` or `"apng"`.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the accepted names.
    pub fn of_name(name: &str) -> Result<Self> {
        match name {
            "gif" => Ok(Self::Gif),
            "png" | "apng" => Ok(Self::Png),
            _ => Err(Error::refused(format!("format must be \"gif\", \"png\" or \"apng\", not \"{name}\""))),
        }
    }
}

/// How long the frames stay.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// A steady rate in frames a second, 0.01..=1000 (in a GIF at most 100). What a format cannot say exactly (GIF counts hundredths
    /// of a second) is carried to the next frame, so that the whole keeps time.
    Fps(f64),
    /// Milliseconds for each frame.
    DelaysMs(Vec<u32>),
}

impl Timing {
    /// The slowest rate, in frames a second.
    pub const MIN_FPS: f64 = 0.01;
    /// The fastest rate, in frames a second.
    pub const MAX_FPS: f64 = 1000.0;

    /// The instants, in milliseconds from the start, at which each frame ends.
    pub(crate) fn ends(&self, frames: usize) -> Result<Vec<f64>> {
        match self {
            Self::Fps(fps) => {
                if !(Self::MIN_FPS..=Self::MAX_FPS).contains(fps) {
                    let (least, most) = (Self::MIN_FPS, Self::MAX_FPS);
                    return Err(Error::refused(format!("fps must be from {least} to {most}, not {fps}")));
                }
                Ok((1..=frames).map(|i| i as f64 * 1000.0 / fps).collect())
            }
            Self::DelaysMs(delays) => {
                if delays.len() != frames {
                    return Err(Error::refused(format!("{} delays for {frames} frames", delays.len())));
                }
                if let Some(long) = delays.iter().find(|&&d| d > 60_000) {
                    return Err(Error::refused(format!("a delay may be at most 60000 ms, not {long}")));
                }
                let mut at = 0.0;
                Ok(delays
                    .iter()
                    .map(|&d| {
                        at += f64::from(d);
                        at
                    })
                    .collect())
            }
        }
    }

    /// Each frame's delay in whole hundredths of a second, the remainder carried: 8 fps is 12, 13, 12, 13.
    pub(crate) fn hundredths(&self, frames: usize) -> Result<Vec<u16>> {
        if let Self::Fps(fps) = self
            && *fps > 100.0
            && frames > 1
        {
            return Err(Error::refused(format!("fps must be at most 100 in a GIF, not {fps}")));
        }
        let mut before = 0.0;
        Ok(self
            .ends(frames)?
            .into_iter()
            .map(|end| {
                // The small addend keeps 3 * (1000 / 3) from falling short of 1000.
                let whole = (end / 10.0 + 1e-6).floor();
                let delay = whole - before;
                before = whole;
                delay as u16
            })
            .collect())
    }
}

/// Writes frames to any writer and returns nothing; see [`save`] for files.
///
/// # Errors
/// [`Error::Refused`] for timing or sizes the format cannot hold; [`Error::Io`] from the writer; whatever `progress`
/// returns.
pub fn encode(
    frames: &Frames,
    format: Format,
    timing: &Timing,
    writer: &mut dyn Write,
    progress: Progress<'_>,
) -> Result<()> {
    timing.ends(frames.frames.len())?;
    match format {
        Format::Gif => gif_encode::encode(frames, timing, writer, progress),
        Format::Png => png_encode::encode(frames, timing, writer, progress),
    }
}

/// Writes frames to `path`, under a temporary name until the file is whole. Returns its size in bytes.
///
/// # Errors
/// As [`encode`], and [`Error::Io`] when the folder cannot be written; an older file then stays as it was.
pub fn save(frames: &Frames, format: Format, timing: &Timing, path: &Path, progress: Progress<'_>) -> Result<u64> {
    let mut file = BufWriter::new(AtomicFile::create(path)?);
    encode(frames, format, timing, &mut file, progress)?;
    let file = file.into_inner().map_err(|e| Error::io(format!("cannot write {}", path.display()), e.into_error()))?;
    file.finish()?;
    let size = std::fs::metadata(path).map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
    Ok(size.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hundredths_keep_time() {
        assert_eq!(Timing::Fps(8.0).hundredths(4).unwrap(), [12, 13, 12, 13]);
        assert_eq!(Timing::Fps(10.0).hundredths(3).unwrap(), [10, 10, 10]);
        for fps in [3.0, 7.0, 12.0, 24.0, 29.97, 30.0] {
            let sum: u32 = Timing::Fps(fps).hundredths(300).unwrap().iter().map(|&d| u32::from(d)).sum();
            assert!((f64::from(sum) - 30_000.0 / fps).abs() < 1.0, "{fps}: {sum}");
        }
        assert_eq!(Timing::DelaysMs(vec![42, 42, 42]).hundredths(3).unwrap(), [4, 4, 4]);
        assert_eq!(Timing::DelaysMs(vec![15, 15]).hundredths(2).unwrap(), [1, 2]);
        assert!(Timing::Fps(f64::NAN).ends(1).is_err());
        assert!(Timing::Fps(0.0).ends(1).is_err());
        assert!(Timing::DelaysMs(vec![1]).ends(2).is_err());
    }

    /// A square that moves over white, in more colours than a palette holds.
    fn moving(count: usize) -> Frames {
        let frame = |i: usize| -> Vec<u8> {
            (0..32 * 24)
                .flat_map(|at| {
                    let (x, y) = (at % 32, at / 32);
                    let inside = (i..i + 10).contains(&x) && (4..20).contains(&y);
                    if inside { [(x * 8) as u8, (y * 10) as u8, (i * 20) as u8] } else { [255; 3] }
                })
                .collect()
        };
        Frames::from_rgb(32, 24, &(0..count).map(frame).collect::<Vec<_>>()).unwrap()
    }

    fn written(frames: &Frames, format: Format, timing: &Timing) -> Frames {
        let mut bytes = Vec::new();
        encode(frames, format, timing, &mut bytes, &|_, _| Ok(())).unwrap();
        crate::decode(&bytes).unwrap()
    }

    #[test]
    fn png_comes_back_exactly() {
        for count in [1, 2, 9] {
            let frames = moving(count);
            let back = written(&frames, Format::Png, &Timing::Fps(8.0));
            assert_eq!(back.frames, frames.frames);
            assert_eq!(back.delays_ms, if count == 1 { vec![0] } else { vec![125; count] });
        }
        let mut glass = moving(3);
        glass.frames[1].chunks_exact_mut(4).for_each(|p| p[3] = p[0]);
        glass.alpha = true;
        assert_eq!(written(&glass, Format::Png, &Timing::Fps(8.0)).frames, glass.frames);
    }

    #[test]
    fn gif_comes_back_closely_with_white_as_it_is() {
        let frames = moving(9);
        let back = written(&frames, Format::Gif, &Timing::Fps(8.0));
        assert_eq!((back.width, back.height, back.frames.len()), (32, 24, 9));
        assert_eq!(back.delays_ms.iter().sum::<u32>(), 1120);
        for (frame, back) in frames.frames.iter().zip(&back.frames) {
            for (p, q) in frame.chunks_exact(4).zip(back.chunks_exact(4)) {
                assert!(p != [255; 4] || q == [255; 4]);
                assert!(p.iter().zip(q).all(|(a, b)| a.abs_diff(*b) < 48), "{p:?} {q:?}");
            }
        }
        // The same picture twice is a frame of its own all the same.
        let still = moving(1).frames[0].clone();
        let twice = Frames { frames: vec![still.clone(), still], delays_ms: vec![0; 2], ..moving(1) };
        assert_eq!(written(&twice, Format::Gif, &Timing::Fps(10.0)).delays_ms, [100, 100]);
    }

    #[test]
    fn rates_are_kept_by_both_formats() {
        let frames = moving(5);
        for (fps, least, most) in [(0.02, 249_999, 250_001), (1.0, 5000, 5000), (29.97, 160, 170), (100.0, 50, 50)] {
            for format in [Format::Gif, Format::Png] {
                let sum: u32 = written(&frames, format, &Timing::Fps(fps)).delays_ms.iter().sum();
                assert!((least..=most).contains(&sum), "{format:?} at {fps}: {sum}");
            }
        }
        assert_eq!(written(&frames, Format::Png, &Timing::Fps(1000.0)).delays_ms, [1; 5]);
        let fast = encode(&frames, Format::Gif, &Timing::Fps(101.0), &mut Vec::new(), &|_, _| Ok(()));
        assert!(matches!(fast, Err(Error::Refused(_))));
    }

    #[test]
    fn stopped_saving_leaves_the_old_file() {
        let folder = std::env::temp_dir().join(format!("kinora-save-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["a.gif", "a.png"] {
            let path = folder.join(name);
            std::fs::write(&path, "old").unwrap();
            let stop = |step: u32, _: u32| if step > 2 { Err(Error::Cancelled) } else { Ok(()) };
            let format = Format::of_path(&path).unwrap();
            let result = save(&moving(6), format, &Timing::Fps(8.0), &path, &stop);
            assert!(matches!(result, Err(Error::Cancelled)));
            assert_eq!(std::fs::read(&path).unwrap(), b"old");
            let long = save(&moving(6), format, &Timing::Fps(8.0), &path, &|_, _| Ok(())).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), long);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn formats_have_names() {
        assert_eq!(Format::of_path(Path::new("a/b.GIF")).unwrap(), Format::Gif);
        assert_eq!(Format::of_path(Path::new("b.apng")).unwrap(), Format::Png);
        assert!(Format::of_path(Path::new("b.mp4")).is_err());
    }
}
