//! A picture collection, decoded once: stills and looping clips become stores of plain pixels.
//!
//! Everything is composited on white and fitted to 256 x 256; the 64-pixel stores are exact 4 x 4 box means of that.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::{
    Error, Progress, Result, decode,
    decode::read,
    frames::over_white,
    progress::Steps,
    resize::{box_down, box_means, fit_square},
    store::StoreWriter,
    stream, webp_decode,
};

/// The side of the full-size stores, in pixels.
pub const LARGE: usize = 256;
/// The side of the small stores, in pixels.
pub const SMALL: usize = 64;

/// What to pack, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One picture file a row of the still stores.
    pub stills: Vec<PathBuf>,
    /// Animated files, in the order of the clip stores.
    pub clips: Vec<PathBuf>,
    /// Which clips (by index into `clips`, each once) also go into the full-size clip store.
    pub large_clips: Vec<usize>,
    /// How many evenly spread frames each of those gives, at most its length.
    pub large_frames: usize,
    /// An existing folder.
    pub out: PathBuf,
}

/// One clip as it lies in the stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedClip {
    /// First row in `clips64`.
    pub start: usize,
    /// Frames.
    pub length: usize,
    /// The most common delay of its frames, in milliseconds.
    pub delay_ms: u32,
    /// Its rows in `clips256`, when it is one of the large clips.
    pub large: Option<LargeClip>,
}

/// The rows of a clip in the full-size clip store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeClip {
    /// First row in `clips256`.
    pub start: usize,
    /// Which frames of the clip these rows are, ascending.
    pub frames: Vec<usize>,
}

/// Decodes everything in `plan` on rayon's current threads and writes `stills256.safetensors`, `stills64.safetensors`
/// and, where there are clips, `clips64.safetensors` and `clips256.safetensors` into `plan.out`.
///
/// Pixels go straight to disk; the files get their names together at the end.
///
/// # Errors
/// [`Error::Refused`] for an empty or inconsistent plan; [`Error::BadFile`] and [`Error::Io`] with the path of the
/// picture; whatever `progress` returns.
pub fn pack(plan: &Plan, progress: Progress<'_>) -> Result<Vec<PackedClip>> {
    check(plan)?;
    let mut clips = lay_out(plan, progress)?;
    let store = |name: &str, rows: usize, side: usize| {
        StoreWriter::create(&plan.out.join(format!("{name}.safetensors")), name, rows, side)
    };
    let stills256 = store("stills256", plan.stills.len(), LARGE)?;
    let stills64 = store("stills64", plan.stills.len(), SMALL)?;
    let small_rows: usize = clips.iter().map(|c| c.length).sum();
    let large_rows: usize = clips.iter().filter_map(|c| c.large.as_ref()).map(|l| l.frames.len()).sum();
    let clips64 = if small_rows > 0 { Some(store("clips64", small_rows, SMALL)?) } else { None };
    let clips256 = if large_rows > 0 { Some(store("clips256", large_rows, LARGE)?) } else { None };

    let steps = Steps::new(plan.stills.len() + small_rows, progress);
    plan.stills.par_iter().enumerate().try_for_each(|(row, path)| {
        let large = still(path)?;
        stills256.write(row, &large)?;
        stills64.write(row, &box_down(&large, LARGE, LARGE, LARGE / SMALL))?;
        steps.one()
    })?;
    plan.clips.par_iter().zip(clips.par_iter_mut()).with_max_len(1).try_for_each(|(path, clip)| {
        let delays = each_frame(path, &mut |frame, large| {
            if let Some(small) = &clips64 {
                small.write(clip.start + frame, &box_down(large, LARGE, LARGE, LARGE / SMALL))?;
            }
            if let (Some(store), Some(rows)) = (&clips256, &clip.large)
                && let Ok(nth) = rows.frames.binary_search(&frame)
            {
                store.write(rows.start + nth, large)?;
            }
            steps.one()
        })?;
        clip.delay_ms = most_common(&delays);
        Ok(())
    })?;

    stills256.finish()?;
    stills64.finish()?;
    clips64.map_or(Ok(()), StoreWriter::finish)?;
    clips256.map_or(Ok(()), StoreWriter::finish)?;
    Ok(clips)
}

/// Which of these pictures to keep, so that no two have the same label or nearly the same pixels: the first of each.
///
/// Near means a root mean square below `threshold` between 16 x 16 block means on white, in [0, 1].
///
/// # Errors
/// [`Error::BadFile`] and [`Error::Io`] with the path of the picture; whatever `progress` returns.
pub fn distinct(items: &[(PathBuf, String)], threshold: f32, progress: Progress<'_>) -> Result<Vec<usize>> {
    let steps = Steps::new(items.len(), progress);
    let means: Vec<Vec<f32>> = items
        .par_iter()
        .map(|(path, _)| {
            let means = box_means(&still(path)?, LARGE, LARGE, LARGE / 16);
            steps.one()?;
            Ok(means)
        })
        .collect::<Result<_>>()?;
    let mut kept: Vec<usize> = Vec::new();
    for (index, (_, label)) in items.iter().enumerate() {
        if kept.iter().any(|&k| items[k].1 == *label) {
            continue;
        }
        let near = kept.par_iter().any(|&k| rms(&means[index], &means[k]) < threshold);
        if !near {
            kept.push(index);
        }
    }
    Ok(kept)
}

fn check(plan: &Plan) -> Result<()> {
    if plan.stills.is_empty() {
        return Err(Error::refused("there is nothing to pack: no stills"));
    }
    if !plan.out.is_dir() {
        return Err(Error::refused(format!("out: {} is not a folder", plan.out.display())));
    }
    if plan.large_frames == 0 && !plan.large_clips.is_empty() {
        return Err(Error::refused("large_frames must be at least 1"));
    }
    let mut seen = vec![false; plan.clips.len()];
    for &clip in &plan.large_clips {
        match seen.get_mut(clip) {
            Some(again) if !*again => *again = true,
            _ => return Err(Error::refused(format!("large_clips: {clip} is not a clip, or is named twice"))),
        }
    }
    Ok(())
}

/// Counts the frames of every clip from its headers, and gives each its rows.
fn lay_out(plan: &Plan, progress: Progress<'_>) -> Result<Vec<PackedClip>> {
    // Quick beside the packing: no steps of its own, but it can be stopped.
    let lengths = frame_counts(&plan.clips, &|_, _| progress(0, 0))?;
    let mut start = 0;
    let mut clips: Vec<PackedClip> = lengths
        .iter()
        .map(|&length| {
            start += length;
            PackedClip { start: start - length, length, delay_ms: 0, large: None }
        })
        .collect();
    let mut large = 0;
    for &clip in &plan.large_clips {
        let frames = spread(clips[clip].length, plan.large_frames);
        large += frames.len();
        clips[clip].large = Some(LargeClip { start: large - frames.len(), frames });
    }
    Ok(clips)
}

/// `count` of `length` indices, evenly spread from the first; all of them when there are no more.
fn spread(length: usize, count: usize) -> Vec<usize> {
    let count = count.min(length);
    (0..count).map(|i| i * length / count).collect()
}

/// How many frames each of these files shows; 1 is a still.
///
/// # Errors
/// [`Error::BadFile`] and [`Error::Io`] with the path of the picture; whatever `progress` returns.
pub fn frame_counts(paths: &[PathBuf], progress: Progress<'_>) -> Result<Vec<usize>> {
    let steps = Steps::new(paths.len(), progress);
    paths
        .par_iter()
        .map(|path| {
            let frames = count(path)?;
            steps.one()?;
            Ok(frames)
        })
        .collect()
}

fn count(path: &Path) -> Result<usize> {
    let bytes = read(path)?;
    if bytes.starts_with(b"RIFF") {
        return webp_decode::frame_count(&bytes).map_err(|e| e.of(path));
    }
    Ok(decode(&bytes).map_err(|e| e.of(path))?.frames.len())
}

fn still(path: &Path) -> Result<Vec<u8>> {
    let picture = decode(&read(path)?).map_err(|e| e.of(path))?;
    Ok(fit_square(&picture.on_white(0), picture.width as usize, picture.height as usize, LARGE))
}

fn each_frame(path: &Path, on_frame: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<Vec<u32>> {
    let mut delays = Vec::new();
    let mut rgb = Vec::new();
    stream(&read(path)?, &mut |picture| {
        rgb.clear();
        rgb.extend(picture.rgba.chunks_exact(4).flat_map(|p| over_white([p[0], p[1], p[2], p[3]])));
        let (width, height) = (picture.width as usize, picture.height as usize);
        on_frame(delays.len(), &fit_square(&rgb, width, height, LARGE))?;
        delays.push(picture.duration.milliseconds().round() as u32);
        Ok(true)
    })
    .map_err(|e| e.of(path))?;
    Ok(delays)
}

fn most_common(delays: &[u32]) -> u32 {
    let times = |d: u32| delays.iter().filter(|&&other| other == d).count();
    delays.iter().copied().max_by_key(|&d| (times(d), std::cmp::Reverse(d))).unwrap_or(0)
}

fn rms(a: &[f32], b: &[f32]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    (sum / a.len() as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Format, Timing, save};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kinora-pack-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("out")).unwrap();
        folder
    }

    /// A file of flat frames, one grey level each.
    fn file(path: PathBuf, side: u32, levels: &[u8], delays: &[u32]) -> PathBuf {
        let frames: Vec<Vec<u8>> = levels.iter().map(|&v| vec![v; (side * side * 3) as usize]).collect();
        let frames = crate::Frames::from_rgb(side, side, &frames).unwrap();
        save(
            &frames,
            Format::Png,
            &Timing::Each(delays.iter().map(|&ms| crate::Seconds::new(ms.into(), 1000)).collect()),
            &path,
            &|_, _| Ok(()),
        )
        .unwrap();
        path
    }

    /// The first byte of each row of a store.
    fn rows(path: &Path, side: usize) -> Vec<u8> {
        let bytes = fs::read(path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
        assert!(header.is_multiple_of(64));
        assert_eq!((bytes.len() - header) % (side * side * 3), 0);
        bytes[header..].chunks_exact(side * side * 3).map(|row| row[0]).collect()
    }

    #[test]
    fn stills_and_clips_get_their_rows() {
        let folder = folder("rows");
        let plan = Plan {
            stills: (0..3).map(|i| file(folder.join(format!("s{i}.png")), 64 << i, &[50 + i as u8], &[0])).collect(),
            clips: vec![
                file(folder.join("a.png"), 256, &[1, 2, 3, 4, 5], &[40, 42, 42, 40, 42]),
                file(folder.join("b.png"), 256, &[11, 12], &[100, 100]),
            ],
            large_clips: vec![1, 0],
            large_frames: 3,
            out: folder.join("out"),
        };
        let clips = pack(&plan, &|_, _| Ok(())).unwrap();
        assert_eq!((clips[0].start, clips[0].length, clips[0].delay_ms), (0, 5, 42));
        assert_eq!((clips[1].start, clips[1].length, clips[1].delay_ms), (5, 2, 100));
        assert_eq!(clips[1].large, Some(LargeClip { start: 0, frames: vec![0, 1] }));
        assert_eq!(clips[0].large, Some(LargeClip { start: 2, frames: vec![0, 1, 3] }));
        assert_eq!(rows(&plan.out.join("stills256.safetensors"), 256), [50, 51, 52]);
        assert_eq!(rows(&plan.out.join("stills64.safetensors"), 64), [50, 51, 52]);
        assert_eq!(rows(&plan.out.join("clips64.safetensors"), 64), [1, 2, 3, 4, 5, 11, 12]);
        assert_eq!(rows(&plan.out.join("clips256.safetensors"), 256), [11, 12, 1, 2, 4]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_stopped_or_failed_pack_leaves_nothing() {
        let folder = folder("stop");
        let still = file(folder.join("s.png"), 64, &[9], &[0]);
        let clip = file(folder.join("c.png"), 64, &[1, 2, 3], &[40, 40, 40]);
        let mut plan = Plan {
            stills: vec![still],
            clips: vec![clip],
            large_clips: vec![0],
            large_frames: 2,
            out: folder.join("out"),
        };
        let stop = |step: u32, _: u32| if step > 2 { Err(Error::Cancelled) } else { Ok(()) };
        assert!(matches!(pack(&plan, &stop), Err(Error::Cancelled)));
        fs::write(folder.join("bad.png"), "no picture").unwrap();
        plan.stills.push(folder.join("bad.png"));
        let error = pack(&plan, &|_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("bad.png"), "{error}");
        plan.stills[1] = folder.join("none.png");
        assert!(matches!(pack(&plan, &|_, _| Ok(())), Err(Error::Io { .. })));
        assert_eq!(fs::read_dir(&plan.out).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn inconsistent_plans_are_refused() {
        let folder = folder("plans");
        let still = file(folder.join("s.png"), 64, &[9], &[0]);
        let good = Plan {
            stills: vec![still.clone()],
            clips: vec![],
            large_clips: vec![],
            large_frames: 0,
            out: folder.join("out"),
        };
        let refused = |plan: Plan| matches!(pack(&plan, &|_, _| Ok(())), Err(Error::Refused(_)));
        assert!(refused(Plan { stills: vec![], ..good.clone() }));
        assert!(refused(Plan { out: folder.join("none"), ..good.clone() }));
        assert!(refused(Plan { large_clips: vec![0], large_frames: 1, ..good.clone() }));
        let clips = vec![still];
        assert!(refused(Plan { clips: clips.clone(), large_clips: vec![0], ..good.clone() }));
        assert!(refused(Plan { clips, large_clips: vec![0, 0], large_frames: 1, ..good.clone() }));
        assert!(!refused(good));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn distinct_keeps_the_first_of_a_name_and_of_a_look() {
        let folder = folder("distinct");
        let item = |i: usize, level: u8, label: &str| {
            (file(folder.join(format!("{i}.png")), 64, &[level], &[0]), label.to_owned())
        };
        let items = [item(0, 10, "a"), item(1, 200, "a"), item(2, 11, "b"), item(3, 60, "c"), item(4, 200, "d")];
        let steps = AtomicU32::new(0);
        let kept = distinct(&items, 0.008, &|_, _| {
            steps.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(kept.unwrap(), [0, 3, 4]);
        assert_eq!(steps.into_inner(), 5);
        assert_eq!(distinct(&items, 0.0, &|_, _| Ok(())).unwrap(), [0, 2, 3, 4]);
        assert_eq!(distinct(&[], 0.008, &|_, _| Ok(())).unwrap(), [0; 0]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn frames_are_spread_evenly() {
        assert_eq!(spread(72, 4), [0, 18, 36, 54]);
        assert_eq!(spread(3, 24), [0, 1, 2]);
        assert_eq!(most_common(&[42, 41, 42]), 42);
        assert_eq!(most_common(&[42, 41]), 41);
        assert_eq!(most_common(&[]), 0);
    }
}
