//! Pictures and films in: any size, rate and number of frames, as one tensor of the wanted ones.

use std::path::{Path, PathBuf};

use kinora_kernels::resample::{self, Filter};
use kinora_media::{Container, Error, Fit, Pace, Picture, Placement, Rect, Seconds, Timing, inspect};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Verb;
use super::tensors::made;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};
use crate::memory;

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "media.decode" => decode,
        "media.planes" => planes,
        _ => return None,
    })
}

/// The most numbers that one call decodes: 2 GiB.
const MOST_NUMBERS: u64 = 1 << 29;
/// The most pictures of a sequence.
const MOST_PATHS: usize = 100_000;
/// Pictures are brought to a wanted size with this filter, widened when shrinking as Pillow does.
const FILTER: Filter = Filter::Bicubic;

/// What is wanted of the frames.
struct Wanted {
    /// A size, and how to come to it.
    size: Option<(u32, u32, Fit)>,
    /// Whether what is transparent becomes white.
    white: bool,
    fps: Option<f64>,
    /// How many frames at most.
    frames: u64,
}

impl Wanted {
    fn channels(&self) -> usize {
        if self.white { 3 } else { 4 }
    }
}

/// What has been decoded so far.
struct Reel<'a> {
    context: &'a Context,
    wanted: &'a Wanted,
    pace: Option<Pace>,
    values: Vec<f32>,
    durations: Vec<Seconds>,
    /// Size of the source, and how it is placed.
    source: Option<(u32, u32)>,
    placement: Option<Placement>,
    pictures: u64,
    /// Pictures that are expected, for progress.
    expected: u64,
    alpha: bool,
}

impl Reel<'_> {
    /// Whether no more frames are wanted.
    fn full(&self) -> bool {
        self.durations.len() as u64 >= self.wanted.frames
    }

    fn take(&mut self, picture: &Picture<'_>) -> kinora_media::Result<bool> {
        self.context.check_cancelled().map_err(|_| Error::Cancelled)?;
        let size = (picture.width, picture.height);
        let (width, height) = *self.source.get_or_insert(size);
        if size != (width, height) {
            let (w, h) = size;
            return Err(Error::Refused(format!("a picture of {w}x{h} follows one of {width}x{height}")));
        }
        self.pictures += 1;
        let (times, duration) = match &mut self.pace {
            Some(pace) => (pace.take(picture.duration), pace.duration()),
            None => (1, picture.duration),
        };
        let times = times.min(self.wanted.frames - self.durations.len() as u64) as usize;
        if times > 0 {
            self.put(picture, times, duration)?;
        }
        let counted = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        self.context.progress(counted(self.pictures), counted(self.expected.max(self.pictures)));
        Ok(!self.full())
    }

    fn put(&mut self, picture: &Picture<'_>, times: usize, duration: Seconds) -> kinora_media::Result<()> {
        self.alpha = self.alpha || picture.rgba.par_chunks_exact(4).any(|p| p[3] != 255);
        let frame = match self.wanted.size {
            Some((width, height, fit)) => {
                let placement = fit.place((picture.width, picture.height), (width, height));
                self.placement = Some(placement);
                fitted(picture, placement, (width as usize, height as usize))
            }
            None if self.wanted.white => on_white(picture.rgba),
            None => picture.rgba.par_iter().map(|&v| unit(v)).collect(),
        };
        let all = (self.values.len() as u64).saturating_add(frame.len() as u64 * times as u64);
        if all > MOST_NUMBERS {
            return Err(Error::Refused(too_much(self.durations.len() as u64 + times as u64)));
        }
        let no_memory = |_| Error::Refused("there is not enough memory for all frames".into());
        self.values.try_reserve(frame.len() * times).map_err(no_memory)?;
        for _ in 0..times {
            self.values.extend_from_slice(&frame);
            self.durations.push(duration);
        }
        Ok(())
    }
}

fn too_much(frames: u64) -> String {
    format!(
        "{frames} frames take more than {} MiB: ask for fewer frames, a lower fps or a smaller size",
        (MOST_NUMBERS * 4) >> 20
    )
}

fn unit(level: u8) -> f32 {
    f32::from(level) / 127.5 - 1.0
}

fn on_white(rgba: &[u8]) -> Vec<f32> {
    let white = |p: &[u8]| kinora_media::over_white([p[0], p[1], p[2], p[3]]).map(unit);
    rgba.par_chunks_exact(4).flat_map_iter(white).collect()
}

/// The part of a picture that is shown, over white, in its place.
fn fitted(picture: &Picture<'_>, placement: Placement, wanted: (usize, usize)) -> Vec<f32> {
    let Placement { crop, content } = placement;
    let row = |y: u32| {
        let start = (y as usize * picture.width as usize + crop.x as usize) * 4;
        &picture.rgba[start..start + crop.width as usize * 4]
    };
    let rgba: Vec<u8> = (crop.y..crop.y + crop.height).flat_map(|y| row(y).iter().copied()).collect();
    let mut values = on_white(&rgba);
    let (width, height) = (content.width as usize, content.height as usize);
    if (content.width, content.height) != (crop.width, crop.height) {
        let frames =
            resample::Frames { values: &values, height: crop.height as usize, width: crop.width as usize, channels: 3 };
        values = resample::resize(frames, height, width, FILTER);
        // The filter overshoots at edges.
        values.par_iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
    }
    if (width, height) == wanted {
        return values;
    }
    let mut whole = vec![1.0; wanted.0 * wanted.1 * 3];
    for (y, row) in values.chunks_exact(width * 3).enumerate() {
        let start = ((content.y as usize + y) * wanted.0 + content.x as usize) * 3;
        whole[start..start + width * 3].copy_from_slice(row);
    }
    whole
}

fn wanted(f: &Fields) -> Result<Wanted, Refusal> {
    let size = match f.has("fit") {
        true => {
            let fit = f.choice("fit", &[("cover", Fit::Cover), ("contain", Fit::Contain)])?;
            let side = 1..=kinora_media::limits::MAX_SIDE;
            Some((f.u32("width", side.clone())?, f.u32("height", side)?, fit))
        }
        false if f.has("width") || f.has("height") => {
            return Err(f.refuse("fit", "is missing: a width and height need one of \"cover\", \"contain\""));
        }
        false => None,
    };
    let white = f.optional("background", |f| f.choice("background", &[("white", true)]))?.unwrap_or(false);
    let fps = f.optional("fps", |f| f.number("fps", Timing::MIN_FPS..=Timing::MAX_FPS))?;
    let frames = f.optional("frames", |f| f.u64("frames", 1..=u32::MAX.into()))?.unwrap_or(u64::MAX);
    Ok(Wanted { size, white: white || size.is_some(), fps, frames })
}

fn decode(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path", "paths", "rate", "background", "width", "height", "fit", "fps", "frames"])?;
    let wanted = wanted(&f)?;
    let (paths, rate) = match f.has("paths") {
        true => (paths(&f)?, Some(Pace::new(f.number("rate", Timing::MIN_FPS..=Timing::MAX_FPS)?)?.duration())),
        false => (vec![f.path("path")?], None),
    };
    let expected = expected(&paths, rate, &wanted)?;
    let mut reel = Reel {
        context,
        wanted: &wanted,
        pace: wanted.fps.map(Pace::new).transpose()?,
        values: Vec::new(),
        durations: Vec::new(),
        source: None,
        placement: None,
        pictures: 0,
        expected,
        alpha: false,
    };
    let mut container = None;
    for path in &paths {
        if reel.full() {
            break;
        }
        let bytes = kinora_media::read(path)?;
        container = Container::of(&bytes);
        let mut own = 0;
        kinora_media::stream(&bytes, &mut |picture| {
            own += 1;
            if own > 1 && rate.is_some() {
                return Err(Error::Refused("it is an animation, and a sequence is made of stills".into()));
            }
            reel.take(&Picture { duration: rate.unwrap_or(picture.duration), ..picture })
        })
        .map_err(|error| match error {
            Error::Refused(why) => Refusal::new(format!("{}: {why}", path.display())),
            other => other.of(path).into(),
        })?;
    }
    reply(reel, container)
}

fn reply(mut reel: Reel<'_>, container: Option<Container>) -> Result<Value, Refusal> {
    if let Some(pace) = &reel.pace {
        let frames = match reel.pictures {
            // A still has no time, and is one frame at any rate.
            1 if reel.expected == 1 => 1,
            _ => pace.frames() as usize,
        };
        let frame = reel.values.len() / reel.durations.len().max(1);
        reel.durations.truncate(frames);
        reel.values.truncate(reel.durations.len() * frame);
    }
    let Some((width, height)) = reel.source else {
        return Err(Refusal::bad_file("the file holds no picture"));
    };
    let (out_width, out_height) = reel.wanted.size.map_or((width, height), |(width, height, _)| (width, height));
    let shape = [reel.durations.len(), out_height as usize, out_width as usize, reel.wanted.channels()];
    let rect = |r: Rect| json!({ "x": r.x, "y": r.y, "width": r.width, "height": r.height });
    let tensor = made(reel.values, &shape)?["tensor"].take();
    Ok(json!({
        "tensor": tensor,
        "durations": reel.durations.iter().map(|d| [d.ticks, d.per_second.into()]).collect::<Vec<[u64; 2]>>(),
        "alpha": reel.alpha,
        "format": container.map(Container::name),
        "width": width,
        "height": height,
        "frames": reel.pictures,
        "placement": reel.placement.map(|p| json!({ "crop": rect(p.crop), "content": rect(p.content) })),
    }))
}

/// Luma and chroma as they are stored, in levels of 255: `y` of [F, H, W], `u` and `v` null in a grey film.
fn planes(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let path = fields(request, &["path"])?.path("path")?;
    let found = inspect::structure(&path)?;
    let most = u64::from(found.width) * u64::from(found.height) * 3;
    if most.checked_mul(found.frames).is_none_or(|all| all > MOST_NUMBERS) {
        return Err(Refusal::new(format!("{}: {}", path.display(), too_much(found.frames))));
    }
    let mut all = [const { Vec::new() }; 3];
    let (mut frames, mut sides) = (0, None);
    kinora_media::planes(&kinora_media::read(&path)?, &mut |planes, _, _| {
        context.check_cancelled().map_err(|_| Error::Cancelled)?;
        let now = (planes.width, planes.height, planes.chroma_width, planes.chroma_height);
        if *sides.get_or_insert(now) != now {
            return Err(Error::Refused("its frames are not of one size".into()));
        }
        for (all, plane) in all.iter_mut().zip([&planes.y, &planes.u, &planes.v]) {
            all.extend(plane.iter().map(|&level| f32::from(level)));
        }
        frames += 1;
        Ok(true)
    })
    .map_err(|error| error.of(&path))?;
    let Some((width, height, chroma_width, chroma_height)) = sides else {
        return Err(Refusal::bad_file("the file holds no picture"));
    };
    let [y, u, v] = all;
    let chroma = |plane: Vec<f32>| match plane.is_empty() {
        true => Ok(Value::Null),
        false => Ok::<_, Refusal>(made(plane, &[frames, chroma_height, chroma_width])?["tensor"].take()),
    };
    let y = made(y, &[frames, height, width])?["tensor"].take();
    Ok(json!({ "y": y, "u": chroma(u)?, "v": chroma(v)? }))
}

fn paths(f: &Fields) -> Result<Vec<PathBuf>, Refusal> {
    let path = |value: &Value| value.as_str().filter(|p| !p.is_empty() && !p.contains('\0')).map(PathBuf::from);
    let paths: Option<Vec<PathBuf>> = f.array("paths")?.iter().map(path).collect();
    match paths {
        Some(paths) if (1..=MOST_PATHS).contains(&paths.len()) => Ok(paths),
        _ => Err(f.refuse("paths", format_args!("must be a list of 1 to {MOST_PATHS} paths"))),
    }
}

/// How many pictures there are by the files' structure; refused where what is wanted of them is too much.
fn expected(paths: &[PathBuf], rate: Option<Seconds>, wanted: &Wanted) -> Result<u64, Refusal> {
    let first: &Path = &paths[0];
    let found = inspect::structure(first)?;
    let pictures = if rate.is_some() { paths.len() as u64 } else { found.frames };
    let seconds = match rate {
        Some(rate) => rate.milliseconds() / 1000.0 * pictures as f64,
        None => found.duration_ms.unwrap_or(0.0) / 1000.0,
    };
    // A rate may round a frame away that was counted here.
    let frames = wanted.fps.map_or(pictures, |fps| ((seconds * fps) as u64).max(1)).min(wanted.frames);
    let (width, height) = wanted.size.map_or((found.width, found.height), |(width, height, _)| (width, height));
    let frame = u64::from(width) * u64::from(height) * wanted.channels() as u64;
    if frame.checked_mul(frames).is_none_or(|all| all > MOST_NUMBERS) {
        let why = too_much(frames);
        return Err(Refusal::new(format!("{}: at {width}x{height}, {why}", first.display())));
    }
    // So that a lack of memory is found out now.
    drop(memory((frame * frames) as usize)?);
    Ok(pictures)
}
