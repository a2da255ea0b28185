//! Packing pictures and clips into data sets.

use std::path::PathBuf;

use kinora_media::pack::{self, Plan};
use serde_json::{Value, json};

use super::Verb;
use super::media::steps;
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "data.frame_counts" => frame_counts,
        "data.distinct" => distinct,
        "data.pack" => pack,
        _ => return None,
    })
}

/// The most pictures, and the most clips, of one data set.
const MAX_FILES: usize = 1 << 20;

/// A list of paths: texts that are neither empty nor hold a NUL.
fn paths(f: &Fields, field: &str) -> Result<Vec<PathBuf>, Refusal> {
    let texts = f.texts(field)?;
    if texts.len() > MAX_FILES {
        return Err(f.refuse(field, format_args!("must hold at most {MAX_FILES} paths, not {}", texts.len())));
    }
    if let Some(at) = texts.iter().position(|text| text.is_empty() || text.contains('\0')) {
        return Err(f.refuse(field, format_args!("must hold paths, which {:?} at position {at} is not", texts[at])));
    }
    Ok(texts.into_iter().map(PathBuf::from).collect())
}

fn frame_counts(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["paths"])?;
    Ok(json!({ "counts": pack::frame_counts(&paths(&f, "paths")?, &steps(context))? }))
}

fn distinct(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["items", "threshold"])?;
    let threshold = f.number("threshold", 0.0..=1.0)? as f32;
    let items = f.each("items", &["path", "group"])?;
    if items.len() > MAX_FILES {
        return Err(f.refuse("items", format_args!("must hold at most {MAX_FILES} pictures, not {}", items.len())));
    }
    let items = items
        .iter()
        .map(|item| Ok((item.path("path")?, item.str("group")?.to_owned())))
        .collect::<Result<Vec<_>, Refusal>>()?;
    Ok(json!({ "kept": pack::distinct(&items, threshold, &steps(context))? }))
}

fn pack(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["stills", "clips", "large_clips", "large_frames", "out"])?;
    let clips = paths(&f, "clips")?;
    let large = f.whole_numbers("large_clips", 0..=(clips.len() as u64).saturating_sub(1))?;
    let plan = Plan {
        stills: paths(&f, "stills")?,
        clips,
        large_clips: large.into_iter().map(|clip| clip as usize).collect(),
        large_frames: f.usize("large_frames", 0..=1 << 16)?,
        out: f.path("out")?,
    };
    let packed = pack::pack(&plan, &steps(context))?;
    let clips: Vec<Value> = packed
        .iter()
        .map(|clip| {
            let large = clip.large.as_ref().map(|large| json!({ "start": large.start, "frames": large.frames }));
            json!({ "start": clip.start, "length": clip.length, "delay_ms": clip.delay_ms, "large": large })
        })
        .collect();
    Ok(json!({ "clips": clips }))
}
