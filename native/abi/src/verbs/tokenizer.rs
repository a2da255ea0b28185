//! Text to token ids.

use kinora_networks::clip_tokenizer::{self, Reading};
use kinora_networks::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Value, json};

use super::Verb;
use super::tensors::{made, zeros};
use crate::context::{Context, Refusal};
use crate::fields::{Fields, fields};
use crate::handles::{self, Object};

/// The verb of a name, if it is one of this file's.
pub fn find(name: &str) -> Option<Verb> {
    Some(match name {
        "tokenizer.train" => train,
        "tokenizer.load" => load,
        "tokenizer.encode" => encode,
        "tokenizer.clip" => clip,
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

/// The texts of a request, of which there must be some and not too many.
fn texts<'a>(f: &Fields<'a>) -> Result<Vec<&'a str>, Refusal> {
    let texts = f.texts("texts")?;
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err(f.refuse("texts", format_args!("must hold 1 to {MAX_TEXTS} texts, not {}", texts.len())));
    }
    Ok(texts)
}

fn encode(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["tokenizer", "texts", "length"])?;
    let tokenizer = f.object::<Tokenizer>("tokenizer")?;
    let texts = texts(&f)?;
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

fn clip(context: &Context, request: &Value) -> Result<Value, Refusal> {
    let f = fields(request, &["texts", "reading", "length"])?;
    let texts = texts(&f)?;
    let reading = f.choice("reading", &[("hf", Reading::Transformers), ("openai", Reading::OpenAi)])?;
    let length = f.usize("length", 2..=1024)?;
    let shape = [texts.len(), length];
    let mut ids = zeros(&shape)?;
    let (mut lengths, mut truncated) = (Vec::new(), Vec::new());
    for (text, ids) in texts.iter().zip(ids.chunks_exact_mut(length)) {
        context.check_cancelled()?;
        let tokens = clip_tokenizer::encode(text, reading, length).map_err(Refusal::new)?;
        for (to, id) in ids.iter_mut().zip(tokens.ids) {
            *to = id as f32;
        }
        lengths.push(tokens.length);
        truncated.push(tokens.truncated);
    }
    let ids = made(ids, &shape)?["tensor"].take();
    Ok(json!({ "ids": ids, "lengths": lengths, "truncated": truncated }))
}
