//! Text to token ids.

use kinora_networks::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Value, json};

use super::Verb;
use super::tensors::{made, zeros};
use crate::context::{Context, Refusal};
use crate::fields::fields;
use crate::handles::{self, Object};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "tokenizer.train" => train,
        "tokenizer.load" => load,
        "tokenizer.encode" => encode,
        _ => return None,
    })
}

/// The most texts that are encoded at once.
const MAX_TEXTS: usize = 1 << 16;

impl Object for Tokenizer {
    const KIND: &'static str = "tokenizer";
}

impl From<TokenizerError> for Refusal {
    fn from(error: TokenizerError) -> Self {
        match error {
            TokenizerError::Io { path, source } => Self::from(source).at(path.display()),
            TokenizerError::BadFile { .. } => Self::bad_file(error.to_string()),
            TokenizerError::Refused(why) => Self::new(why),
        }
    }
}

fn held(tokenizer: Tokenizer) -> Value {
    let vocabulary = tokenizer.vocabulary();
    json!({ "tokenizer": handles::insert(tokenizer), "vocabulary": vocabulary })
}

fn train(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["texts", "vocabulary", "path"])?;
    let path = f.path("path")?;
    let texts = f.texts("texts")?;
    let tokenizer = Tokenizer::train(&texts, f.usize("vocabulary", 1..=1 << 20)?)?;
    context.check_cancelled()?;
    tokenizer.save(&path)?;
    Ok(held(tokenizer))
}

fn load(_: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["path"])?;
    Ok(held(Tokenizer::load(&f.path("path")?)?))
}

fn encode(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tokenizer", "texts", "length"])?;
    let tokenizer = f.object::<Tokenizer>("tokenizer")?;
    let texts = f.texts("texts")?;
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err(f.refuse("texts", format_args!("must hold 1 to {MAX_TEXTS} texts, not {}", texts.len())));
    }
    let length = f.usize("length", 2..=1024)?;
    let shape = [texts.len(), length];
    let mut ids = zeros(&shape)?;
    let (mut unknown, mut truncated) = (Vec::new(), Vec::new());
    for (text, ids) in texts.iter().zip(ids.chunks_exact_mut(length)) {
        context.check_cancelled()?;
        let encoded = tokenizer.encode(text, length)?;
        for (to, id) in ids.iter_mut().zip(encoded.ids) {
            *to = id as f32;
        }
        unknown.push(encoded.unknown);
        truncated.push(encoded.truncated);
    }
    let ids = made(ids, &shape)?["tensor"].take();
    Ok(json!({ "ids": ids, "unknown": unknown, "truncated": truncated }))
}
