use std::{
    io::{BufWriter, Write},
    path::Path,
};

use crate::{
    AtomicFile, Error, Frames, Progress, Result, Timing, gif_encode, mp4_encode, png_encode, webp_encode, y4m,
};

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Animated GIF: 255 colours and one palette for all frames; transparency becomes white.
    Gif,
    /// PNG for one frame, APNG for more: exact.
    Png,
    /// Y4M, 4:4:4 in BT.601 of limited range; transparency becomes white.
    Y4m,
    /// MP4 with H.264, High profile, 4:2:0 in BT.601 of limited range; transparency becomes white, an odd side one pixel
    /// longer.
    Mp4,
    /// WebP, lossless, animated for more than one frame: exact.
    WebP,
}

impl Format {
    /// The formats by the extensions of their files.
    const NAMES: [(&str, Self); 6] = [
        ("gif", Self::Gif),
        ("png", Self::Png),
        ("apng", Self::Png),
        ("mp4", Self::Mp4),
        ("webp", Self::WebP),
        ("y4m", Self::Y4m),
    ];

    /// By the extension of a path, in any case.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the accepted extensions.
    pub fn of_path(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let found = Self::NAMES.iter().find(|(name, _)| *name == extension);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let accepted: Vec<String> = Self::NAMES.iter().map(|(name, _)| format!(".{name}")).collect();
            Error::refused(format!("{}: the name must end in one of {}", path.display(), accepted.join(", ")))
        })
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
    timing.check(frames.frames.len())?;
    match format {
        Format::Gif => gif_encode::encode(frames, timing, writer, progress),
        Format::Png => png_encode::encode(frames, timing, writer, progress),
        Format::Y4m => y4m::encode(frames, timing, writer, progress),
        Format::Mp4 => mp4_encode::encode(frames, timing, writer, progress),
        Format::WebP => webp_encode::encode(frames, timing, writer, progress),
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
    use crate::Seconds;

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
    fn png_and_webp_come_back_exactly() {
        for format in [Format::Png, Format::WebP] {
            for count in [1, 2, 9] {
                let frames = moving(count);
                let back = written(&frames, format, &Timing::Fps(8.0));
                assert_eq!(back.frames, frames.frames);
                assert_eq!(back.delays_ms, if count == 1 { vec![0] } else { vec![125; count] });
            }
            let mut glass = moving(3);
            glass.frames[1].chunks_exact_mut(4).for_each(|p| p[3] = p[0]);
            glass.alpha = true;
            assert_eq!(written(&glass, format, &Timing::Fps(8.0)).frames, glass.frames);
        }
    }

    #[test]
    fn films_come_back_closely_with_their_exact_timing() {
        let frames = moving(9);
        let uneven: Vec<Seconds> = (1..=9).map(|i| Seconds::new(i * 1001, 30_000)).collect();
        for (format, timing, ms) in [
            (Format::Y4m, Timing::Fps(29.97), 1001.0 / 30.0),
            (Format::Mp4, Timing::Fps(29.97), 1001.0 / 30.0),
            (Format::Mp4, Timing::Fps(8.0), 125.0),
            (Format::Mp4, Timing::Each(uneven), 0.0),
        ] {
            let mut bytes = Vec::new();
            encode(&frames, format, &timing, &mut bytes, &|_, _| Ok(())).unwrap();
            let mut index = 0;
            let (mut wrong, mut all) = (0.0, 0.0);
            crate::stream(&bytes, &mut |picture| {
                let wanted = if ms > 0.0 { ms } else { (index + 1) as f64 * 1001.0 / 30.0 };
                assert!((picture.duration.milliseconds() - wanted).abs() < 1e-9);
                assert_eq!((picture.width, picture.height), (32, 24));
                for (a, b) in picture.rgba.iter().zip(&frames.frames[index]) {
                    wrong += f64::from(a.abs_diff(*b)).powi(2);
                    all += 1.0;
                }
                index += 1;
                Ok(true)
            })
            .unwrap();
            assert_eq!(index, 9);
            // 4:2:0 smears the colours of a picture as small as this one.
            let most = if format == Format::Y4m { 1.5 } else { 16.0 };
            assert!((wrong / all).sqrt() < most, "{format:?}: {}", (wrong / all).sqrt());
        }
        // An odd side becomes even.
        let odd = Frames::from_rgb(5, 3, &[vec![90; 45]]).unwrap();
        let back = written(&odd, Format::Mp4, &Timing::Fps(8.0));
        assert_eq!((back.width, back.height), (6, 4));
        assert!(back.frames[0].iter().all(|&v| v == 255 || v.abs_diff(90) < 4));
        let wide = Frames::from_rgb(4098, 2, &[vec![90; 4098 * 6]]).unwrap();
        assert!(matches!(
            encode(&wide, Format::Mp4, &Timing::Fps(8.0), &mut Vec::new(), &|_, _| Ok(())),
            Err(Error::Refused(_))
        ));
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
        for name in ["a.gif", "a.png", "a.mp4", "a.webp", "a.y4m"] {
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
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 5);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn formats_have_names() {
        assert_eq!(Format::of_path(Path::new("a/b.GIF")).unwrap(), Format::Gif);
        assert_eq!(Format::of_path(Path::new("b.apng")).unwrap(), Format::Png);
        assert!(Format::of_path(Path::new("b.xyz")).unwrap_err().to_string().contains(".y4m"));
    }
}
