//! From a prompt to token ids: a lower-case byte-pair tokenizer with a small vocabulary of its own.
//!
//! The pipeline is NFKC and lower case, BERT's pre-tokenisation (white space apart, every punctuation mark alone), byte
//! pairs with `</w>` at the end of a word, and `<s> … </s>` around the text. It is stored as a `tokenizer.json` in the
//! format of the `tokenizers` library, so any tool that reads those reads this one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::vocabulary::{self, END_OF_WORD, Vocabulary};

/// The id that fills the places after a text.
pub const PAD: u32 = 0;
/// The id of a character outside the alphabet.
pub const UNKNOWN: u32 = 1;
/// The id in front of every text.
pub const START: u32 = 2;
/// The id after every text; the text tower reads its embedding there.
pub const END: u32 = 3;

const SPECIALS: [&str; 4] = ["<pad>", "<unk>", "<s>", "</s>"];
/// Characters beyond ASCII that may get a token of their own.
const ALPHABET: usize = 128;
const LARGEST_VOCABULARY: usize = 65_536;
const LARGEST_FILE: u64 = 16 << 20;

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// An argument is out of range or empty.
    #[error("{0}")]
    Refused(String),
    /// The file is not a tokenizer this library can use.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

type Result<T> = std::result::Result<T, TokenizerError>;

/// One text as the text tower takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// `length` ids: `<s>`, the text, `</s>`, then `<pad>`.
    pub ids: Vec<u32>,
    /// 1 for `<s>`, the text and `</s>`; 0 for padding.
    pub mask: Vec<u8>,
    /// Words of the text made only of unknown characters, as they were written, in order.
    pub unknown: Vec<String>,
    /// Whether the end of the text did not fit.
    pub truncated: bool,
}

/// A lower-case byte-pair tokenizer. Cheap to share between threads by reference.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocabulary: usize,
}

impl Tokenizer {
    /// Learns a vocabulary of at most `vocabulary` tokens from `texts`; the same texts give the same tokenizer.
    ///
    /// # Errors
    /// When there is no word in `texts`, or `vocabulary` is below the alphabet's size (about 200) or above 65,536.
    pub fn train<T: AsRef<str>>(texts: &[T], vocabulary: usize) -> Result<Self> {
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            for word in split(text.as_ref()) {
                *words.entry(word).or_default() += 1;
            }
        }
        if words.is_empty() {
            return Err(TokenizerError::Refused("texts must hold at least one word to learn from".into()));
        }
        let smallest = vocabulary::learn(&words, &SPECIALS, ALPHABET, 0).tokens.len();
        if !(smallest..=LARGEST_VOCABULARY).contains(&vocabulary) {
            return Err(TokenizerError::Refused(format!(
                "vocabulary must be {smallest} (the alphabet of these texts) to {LARGEST_VOCABULARY} tokens, not {vocabulary}"
            )));
        }
        Self::from_vocabulary(vocabulary::learn(&words, &SPECIALS, ALPHABET, vocabulary))
            .map_err(TokenizerError::Refused)
    }

    /// Reads a `tokenizer.json` that [`Tokenizer::save`] wrote, or one with the same pipeline.
    ///
    /// # Errors
    /// When the file cannot be read, is larger than 16 MiB, is not JSON, or holds another kind of tokenizer.
    pub fn load(path: &Path) -> Result<Self> {
        let io = |source| TokenizerError::Io { path: path.into(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > LARGEST_FILE {
            let reason = format!("a tokenizer of {length} bytes, more than the {LARGEST_FILE} accepted");
            return Err(TokenizerError::BadFile { path: path.into(), reason });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::from_json(&bytes).map_err(|reason| TokenizerError::BadFile { path: path.into(), reason })
    }

    /// Writes `tokenizer.json` to `path`: to a temporary name first, then renamed, so it is there whole or not at all.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = self.inner.to_string(true).map_err(|error| TokenizerError::Refused(error.to_string()))?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let written = std::fs::write(&partial, text + "\n").and_then(|()| std::fs::rename(&partial, path));
        written.map_err(|source| {
            let _ = std::fs::remove_file(&partial);
            TokenizerError::Io { path: path.into(), source }
        })
    }

    /// How many tokens there are; ids are `0..vocabulary`.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The text of a token, `None` beyond the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Encodes one text into exactly `length` ids; a text that does not fit loses its end, never `</s>`.
    ///
    /// Special tokens written in the text (`</s>`) are read as plain punctuation and letters.
    ///
    /// # Errors
    /// When `length` is not in 2..=1024.
    pub fn encode(&self, text: &str, length: usize) -> Result<Encoded> {
        if !(2..=1024).contains(&length) {
            return Err(TokenizerError::Refused(format!("length must be 2 to 1024 tokens, not {length}")));
        }
        let encoding =
            self.inner.encode(text, false).map_err(|error| TokenizerError::Refused(format!("text: {error}")))?;
        let body = encoding.get_ids();
        let kept = body.len().min(length - 2);
        let mut ids = Vec::with_capacity(length);
        ids.push(START);
        ids.extend_from_slice(&body[..kept]);
        ids.push(END);
        let mut mask = vec![1; ids.len()];
        ids.resize(length, PAD);
        mask.resize(length, 0);
        Ok(Encoded { ids, mask, unknown: unknown_words(text, &encoding), truncated: kept < body.len() })
    }

    fn from_vocabulary(learnt: Vocabulary) -> std::result::Result<Self, String> {
        let ids: Vec<(String, u32)> = learnt.tokens.into_iter().zip(0..).collect();
        let vocabulary = ids.len();
        let model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), learnt.merges)
            .unk_token(SPECIALS[UNKNOWN as usize].into())
            .end_of_word_suffix(END_OF_WORD.into())
            .fuse_unk(true)
            .build()
            .map_err(|error| error.to_string())?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let around = TemplateProcessing::builder()
            .try_single("<s> $A </s>")
            .map(|builder| builder.special_tokens(vec![("<s>", START), ("</s>", END)]))
            .and_then(|builder| builder.build().map_err(|error| error.to_string()))?;
        inner
            .with_normalizer(Some(normalizer()))
            .map_err(|error| error.to_string())?
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(Some(around));
        inner
            .add_special_tokens(SPECIALS.map(|token| AddedToken::from(token, true)))
            .map_err(|error| error.to_string())?;
        inner.set_encode_special_tokens(true);
        Ok(Self { inner, vocabulary })
    }

    /// Only the vocabulary and the merges are taken from a file; the pipeline must be the one written here, because a
    /// foreign one (another case, another splitting) would give ids that mean something else.
    fn from_json(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON ({error})"))?;
        let model = file.get("model").and_then(Value::as_object).ok_or("not a tokenizer.json: it has no \"model\"")?;
        if model.get("type").and_then(Value::as_str) != Some("BPE") {
            return Err(format!("model.type must be \"BPE\", not {}", model.get("type").unwrap_or(&Value::Null)));
        }
        let entries =
            model.get("vocab").and_then(Value::as_object).ok_or("model.vocab must be an object of token: id")?;
        if entries.len() > LARGEST_VOCABULARY {
            return Err(format!("model.vocab must hold at most {LARGEST_VOCABULARY} tokens, not {}", entries.len()));
        }
        let mut tokens: Vec<Option<String>> = vec![None; entries.len()];
        for (token, id) in entries {
            let place = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
            match place {
                Some(place @ None) => *place = Some(token.clone()),
                _ => {
                    return Err(format!(
                        "model.vocab[{token:?}] must be an id from 0 to {} that no other token has, not {id}",
                        entries.len() - 1
                    ));
                }
            }
        }
        let tokens: Vec<String> = tokens.into_iter().flatten().collect();
        for (id, special) in SPECIALS.iter().enumerate() {
            if tokens.get(id).map(String::as_str) != Some(special) {
                return Err(format!("model.vocab must have {special:?} as id {id}, not {:?}", tokens.get(id)));
            }
        }
        let merges = model.get("merges").and_then(Value::as_array).ok_or("model.merges must be an array of pairs")?;
        let merges: Option<Vec<(String, String)>> = merges.iter().map(pair_of).collect();
        let merges = merges.ok_or("model.merges must be pairs of tokens")?;
        let tokenizer =
            Self::from_vocabulary(Vocabulary { tokens, merges }).map_err(|error| format!("model.merges: {error}"))?;

        let own: Value = tokenizer
            .inner
            .to_string(false)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or("model: cannot be written back")?;
        let same = |owner: &Value, other: &Value, key: &str| {
            owner.get(key).unwrap_or(&Value::Null) == other.get(key).unwrap_or(&Value::Null)
        };
        for key in ["normalizer", "pre_tokenizer"] {
            if !same(&own, &file, key) {
                let (wanted, got) = (&own[key], file.get(key).unwrap_or(&Value::Null));
                return Err(format!("{key} must be {wanted}, not {got}"));
            }
        }
        for key in [
            "unk_token",
            "end_of_word_suffix",
            "continuing_subword_prefix",
            "fuse_unk",
            "byte_fallback",
            "ignore_merges",
            "dropout",
        ] {
            if !same(&own["model"], &file["model"], key) {
                let (wanted, got) = (&own["model"][key], model.get(key).unwrap_or(&Value::Null));
                return Err(format!("model.{key} must be {wanted}, not {got}"));
            }
        }
        Ok(tokenizer)
    }
}

fn normalizer() -> Sequence {
    Sequence::new(vec![NFKC.into(), Lowercase.into()])
}

/// The words of a text, as training counts them: the same normalisation and splitting as encoding.
fn split(text: &str) -> Vec<String> {
    let mut normalized = tokenizers::NormalizedString::from(text);
    if normalizer().normalize(&mut normalized).is_err() {
        return Vec::new();
    }
    let mut words = PreTokenizedString::from(normalized);
    if BertPreTokenizer.pre_tokenize(&mut words).is_err() {
        return Vec::new();
    }
    let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    splits.into_iter().map(|(word, _, _)| word.to_string()).filter(|word| !word.is_empty()).collect()
}

/// The words whose every token is `<unk>`, by their spans in the text.
fn unknown_words(text: &str, encoding: &tokenizers::Encoding) -> Vec<String> {
    let mut words: BTreeMap<u32, (bool, usize, usize)> = BTreeMap::new();
    for ((id, word), &(from, to)) in encoding.get_ids().iter().zip(encoding.get_word_ids()).zip(encoding.get_offsets())
    {
        let Some(word) = word else { continue };
        let entry = words.entry(*word).or_insert((true, from, to));
        *entry = (entry.0 && *id == UNKNOWN, entry.1.min(from), entry.2.max(to));
    }
    let unknown = words.into_values().filter(|(unknown, _, _)| *unknown);
    unknown.filter_map(|(_, from, to)| text.get(from..to).map(str::to_string)).collect()
}

fn pair_of(value: &Value) -> Option<(String, String)> {
    match value {
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        // The older form of the file: "left right".
        Value::String(pair) => pair.split_once(' ').map(|(left, right)| (left.into(), right.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 8] = [
        "butterfly",
        "A cute butterfly, moving",
        "flying saucer",
        "the rocket is flying",
        "weary cat",
        "cats & dogs",
        "piñata",
        "an image of a cat",
    ];

    fn trained() -> Tokenizer {
        Tokenizer::train(&TEXTS, 512).unwrap()
    }

    #[test]
    fn encode_frames_the_text() {
        let encoded = trained().encode("Butterfly", 16).unwrap();
        assert_eq!((encoded.ids[0], encoded.ids[2], encoded.ids.len()), (START, END, 16));
        assert_eq!(encoded.mask.iter().map(|&keep| keep as usize).sum::<usize>(), 3);
        assert!(encoded.ids[3..].iter().all(|&id| id == PAD));
        assert_eq!(trained().token(encoded.ids[1]).unwrap(), "butterfly</w>");
        assert_eq!(encoded, trained().encode("ＢＵＴＴＥＲＦＬＹ", 16).unwrap(), "NFKC and lower case");
    }

    #[test]
    fn truncation_keeps_the_end() {
        let long = "a cat and a dog and a bird and a fish and a whale and a bee";
        let encoded = trained().encode(long, 8).unwrap();
        assert_eq!(encoded.ids.len(), 8);
        assert_eq!((encoded.ids[7], encoded.truncated), (END, true));
        assert!(!trained().encode("a cat", 8).unwrap().truncated);
        let shortest = trained().encode("a cat", 2).unwrap();
        assert_eq!((shortest.ids, shortest.truncated), (vec![START, END], true));
        assert!(trained().encode("a cat", 1).unwrap_err().to_string().starts_with("length must"));
    }

    #[test]
    fn empty_text_is_start_and_end() {
        let encoded = trained().encode("  \n", 4).unwrap();
        assert_eq!(encoded.ids, [START, END, PAD, PAD]);
    }

    #[test]
    fn unknown_words_are_named() {
        let encoded = trained().encode("a 猫 and 日本 cat猫", 32).unwrap();
        assert_eq!(encoded.unknown, ["猫", "日本"], "a word with a known part is not unknown");
        let encoded = trained().encode("котик zebra", 32).unwrap();
        assert_eq!(encoded.unknown, ["котик"]);
        assert_eq!(encoded.ids.iter().filter(|&&id| id == UNKNOWN).count(), 1, "one <unk> for a whole unknown word");
    }

    #[test]
    fn special_tokens_in_a_prompt_are_only_text() {
        let encoded = trained().encode("</s> <pad> cat", 32).unwrap();
        assert_eq!(encoded.ids.iter().filter(|&&id| id == END).count(), 1);
        let length = encoded.mask.iter().filter(|&&keep| keep == 1).count();
        assert!(encoded.ids[..length].iter().all(|&id| id != PAD));
    }

    #[test]
    fn training_is_deterministic() {
        let texts: Vec<String> =
            (0..2000).map(|i| format!("{} number{} of x{}", TEXTS[i % 8], i % 97, i % 31)).collect();
        let first = Tokenizer::train(&texts, 600).unwrap().inner.to_string(false).unwrap();
        for _ in 0..3 {
            assert_eq!(first, Tokenizer::train(&texts, 600).unwrap().inner.to_string(false).unwrap());
        }
    }

    #[test]
    fn save_and_load_agree() {
        let folder = tempfolder("save_and_load");
        let path = folder.join("tokenizer.json");
        let before = trained();
        before.save(&path).unwrap();
        let after = Tokenizer::load(&path).unwrap();
        assert_eq!(before.vocabulary(), after.vocabulary());
        for text in ["butterfly", "an unseen zebra!", "猫", "</s>"] {
            assert_eq!(before.encode(text, 16).unwrap(), after.encode(text, 16).unwrap());
        }
        after.save(&folder.join("again.json")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(folder.join("again.json")).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no temporary file is left");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn plain_library_reads_the_file() {
        let json = trained().inner.to_string(false).unwrap();
        let plain = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        let ids = plain.encode("weary cat", true).unwrap().get_ids().to_vec();
        assert_eq!(ids, trained().encode("weary cat", ids.len()).unwrap().ids);
    }

    #[test]
    fn bad_files_are_refused() {
        let good: Value = serde_json::from_str(&trained().inner.to_string(false).unwrap()).unwrap();
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut file = good.clone();
            change(&mut file);
            match Tokenizer::from_json(file.to_string().as_bytes()) {
                Ok(_) => panic!("accepted"),
                Err(reason) => reason,
            }
        };
        assert!(refused(&|file| file["model"]["type"] = "WordPiece".into()).starts_with("model.type"));
        assert!(refused(&|file| file["model"]["vocab"]["<pad>"] = 1.into()).starts_with("model.vocab"));
        assert!(refused(&|file| file["model"]["vocab"]["<pad>"] = 1_000_000_000.into()).starts_with("model.vocab"));
        assert!(refused(&|file| file["model"]["vocab"] = Value::Null).starts_with("model.vocab"));
        assert!(
            refused(&|file| file["model"]["merges"] = serde_json::json!([["no such", "token"]]))
                .starts_with("model.merges")
        );
        assert!(refused(&|file| file["model"]["merges"] = serde_json::json!([1])).starts_with("model.merges"));
        assert!(refused(&|file| file["normalizer"] = Value::Null).starts_with("normalizer"));
        assert!(
            refused(&|file| file["model"]["end_of_word_suffix"] = Value::Null).starts_with("model.end_of_word_suffix")
        );
        assert!(refused(&|file| *file = Value::Null).contains("no \"model\""));
        for bytes in [&b""[..], b"{", b"[]", b"\xff\xfe"] {
            assert!(Tokenizer::from_json(bytes).is_err());
        }
        assert!(matches!(Tokenizer::load(Path::new("/nowhere/tokenizer.json")), Err(TokenizerError::Io { .. })));
    }

    #[test]
    fn train_refuses_nothing_and_too_little() {
        assert!(Tokenizer::train::<&str>(&[], 512).is_err());
        assert!(Tokenizer::train(&["  "], 512).is_err());
        let error = Tokenizer::train(&TEXTS, 50).err().unwrap().to_string();
        assert!(error.starts_with("vocabulary must be 1"), "{error}");
        assert!(Tokenizer::train(&TEXTS, 70_000).is_err());
    }

    fn tempfolder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kinora_tokenizer_{name}_{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
