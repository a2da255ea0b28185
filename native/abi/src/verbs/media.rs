//! Pictures and films out; `film.rs` reads them.

use kinora_media::{Error, Format, Frames, Seconds, Timing};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Verb;
use super::tensors::Floats;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "media.encode" => encode,
        _ => return None,
    })
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(why) => Self::new(why),
            Error::BadFile { .. } => Self::bad_file(error.to_string()),
            Error::Unsupported { .. } => Self::unsupported(error.to_string()),
            Error::Io { context, source } => Self::from(source).at(context),
            Error::Cancelled => Self::cancelled(),
        }
    }
}

/// Passes steps on to the job, and its wish to stop back.
pub(super) fn steps(context: &Context) -> impl Fn(u32, u32) -> kinora_media::Result<()> + Sync + '_ {
    |step, total| {
        context.check_cancelled().map_err(|_| Error::Cancelled)?;
        context.progress(step, total);
        Ok(())
    }
}

/// A value in [-1, 1] as a byte, as `Video.bytes()` gives it: clamped, halves to even, NaN to 0.
fn byte(value: f32) -> u8 {
    // A cast saturates, and takes NaN to 0.
    ((f64::from(value) + 1.0) * 127.5).round_ties_even() as u8
}

fn encode(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tensor", "path", "fps", "durations"])?;
    let path = f.path("path")?;
    let format = Format::of_path(&path)?;
    let tensor = f.tensor("tensor")?;
    let (height, width) = match *tensor.dims() {
        [height, width, 3] | [_, height, width, 3] => (height, width),
        ref other => {
            let rest = format_args!("must have the shape [F, H, W, 3] or [H, W, 3], not {other:?}");
            return Err(f.refuse("tensor", rest));
        }
    };
    let timing = match f.has("durations") {
        true => Timing::Each(durations(&f)?),
        false => Timing::Fps(f.number("fps", Timing::MIN_FPS..=Timing::MAX_FPS)?),
    };
    let frame = height * width * 3;
    kinora_media::limits::check("picture", side(width), side(height), (tensor.elem_count() / frame) as u64)
        .map_err(|error| f.refuse("tensor", format_args!("cannot be a picture: {error}")))?;
    let floats = Floats::of(&tensor)?;
    let frames: Vec<Vec<u8>> = {
        let guard = floats.lock();
        let frames = guard.values()?.par_chunks_exact(frame);
        frames.map(|frame| frame.iter().map(|&v| byte(v)).collect()).collect()
    };
    let frames = Frames::from_rgb(side(width), side(height), &frames)?;
    let bytes = kinora_media::save(&frames, format, &timing, &path, &steps(context))?;
    Ok(json!({ "bytes": bytes }))
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

/// The field `durations`: a list of [ticks, ticks a second].
fn durations(f: &Fields) -> Result<Vec<Seconds>, Refusal> {
    let item = |value: &Value| {
        let [ticks, per_second] = value.as_array()?.as_slice() else { return None };
        let per_second = per_second.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0)?;
        Some(Seconds::new(ticks.as_u64().filter(|&n| n <= u32::MAX.into())?, per_second))
    };
    let list: Option<Vec<Seconds>> = f.array("durations")?.iter().map(item).collect();
    list.ok_or_else(|| f.refuse("durations", "must be a list of [ticks, ticks a second], whole numbers below 2^32"))
}

#[cfg(test)]
mod tests {
    use super::byte;

    #[test]
    fn bytes_are_clamped_and_halves_go_to_even() {
        assert_eq!([-1.0, 0.0, 1.0, -7.0, 7.0, f32::NAN].map(byte), [0, 128, 255, 0, 255, 0]);
        // 1 / 127.5 - 1 is a little off one level, and must come back to it.
        for level in 0..=255u8 {
            assert_eq!(byte(f32::from(level) / 127.5 - 1.0), level);
        }
        assert_eq!([0.5f32 / 127.5 - 1.0, 2.5 / 127.5 - 1.0].map(byte).map(|b| b % 2), [0, 0]);
    }
}
