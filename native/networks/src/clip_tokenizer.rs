//! CLIP's own tokenizer: lower-case byte pairs with a vocabulary of 49,408 tokens, as the text towers of CLIP and of
//! unCLIP models were trained with it.
//!
//! There are two readings of a text, and 143 of the 200 texts of tests/parity/fixtures/bpe differ in them, so a caller
//! chooses:
//!
//! | reading | before byte pairs | special tokens in a text |
//! | --- | --- | --- |
//! | [`Reading::Transformers`] | NFC, white space to single spaces, lower case of each character | `<\|endoftext\|>` as it stands |
//! | [`Reading::OpenAi`] | repairs of ftfy, references of HTML twice, white space, lower case of the word | in any case |
//!
//! The first is what transformers' `CLIPTokenizer` does, the second OpenAI's `SimpleTokenizer`; both cut a text so that
//! the end token stays, and fill up with a pad token, which is 0 here, as OpenAI has it.

use crate::{html_references, text_repair};
use flate2::read::GzDecoder;
use regex::Regex;
use std::io::Read;
use std::sync::LazyLock;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior};

/// The 48,894 merges, the most frequent first: those of OpenAI's `bpe_simple_vocab_16e6.txt.gz` (MIT, Copyright (c) 2021
/// OpenAI) that CLIP uses.
const MERGES: &[u8] = include_bytes!("clip_merges.txt.gz");

const END_OF_WORD: &str = "</w>";

/// Number of tokens; ids are below it.
pub const VOCABULARY: usize = 49_408;
/// The id in front of every text.
pub const START: u32 = 49_406;
/// The id after every text.
pub const END: u32 = 49_407;
/// The id that fills the places after a text; it is also that of `!` within a word.
pub const PAD: u32 = 0;

const SPECIALS: [(&str, u32); 2] = [("<|startoftext|>", START), ("<|endoftext|>", END)];

/// What is done to a text before it is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As transformers' `CLIPTokenizer`.
    Transformers,
    /// As OpenAI's `SimpleTokenizer`.
    OpenAi,
}

/// One text as CLIP's text tower takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipTokens {
    /// [`START`], the text, [`END`], then [`PAD`].
    pub ids: Vec<u32>,
    /// Ids before the padding.
    pub length: usize,
    /// Whether the end of the text did not fit.
    pub truncated: bool,
}

/// The tokenizer; it is made when it is first asked for, which takes about a tenth of a second.
static TOKENIZER: LazyLock<Result<ClipTokenizer, String>> =
    LazyLock::new(|| ClipTokenizer::new().map_err(|error| error.to_string()));

struct ClipTokenizer {
    inner: tokenizers::Tokenizer,
    words: Regex,
    byte_characters: [char; 256],
}

/// Encodes one text into exactly `length` ids.
///
/// # Errors
/// When `length` is not in 2..=1024.
pub fn encode(text: &str, reading: Reading, length: usize) -> Result<ClipTokens, String> {
    if !(2..=1024).contains(&length) {
        return Err(format!("length must be 2 to 1024 tokens, not {length}"));
    }
    let tokenizer = TOKENIZER.as_ref().map_err(Clone::clone)?;
    let body = match reading {
        Reading::Transformers => tokenizer.transformers(text),
        Reading::OpenAi => tokenizer.open_ai(text),
    }
    .map_err(|error| format!("text: {error}"))?;
    let kept = body.len().min(length - 2);
    let mut ids = Vec::with_capacity(length);
    ids.push(START);
    ids.extend_from_slice(&body[..kept]);
    ids.push(END);
    ids.resize(length, PAD);
    Ok(ClipTokens { ids, length: kept + 2, truncated: kept < body.len() })
}

impl ClipTokenizer {
    fn new() -> tokenizers::Result<Self> {
        let mut merges = String::new();
        GzDecoder::new(MERGES).read_to_string(&mut merges)?;
        let merges: Vec<(String, String)> =
            merges.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.into(), b.into())).collect();

        // The order of the vocabulary: printable bytes, the other bytes, both again as the end of a word, the merges.
        let byte_characters = byte_characters();
        let mut alphabet = byte_characters.map(String::from).to_vec();
        alphabet.sort_unstable();
        let ends = alphabet.iter().map(|byte| format!("{byte}{END_OF_WORD}"));
        let merged = merges.iter().map(|(a, b)| format!("{a}{b}"));
        let specials = SPECIALS.iter().map(|&(token, _)| token.to_owned());
        let vocabulary: Vocab = alphabet.iter().cloned().chain(ends).chain(merged).chain(specials).zip(0..).collect();

        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .unk_token(SPECIALS[1].0.into())
            .end_of_word_suffix(END_OF_WORD.into())
            .build()?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
        let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
        let split = Split::new(SplitPattern::Regex(words.into()), SplitDelimiterBehavior::Removed, true)?;
        inner
            .with_normalizer(Some(Sequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))?
            .with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, true).into()])));
        inner.add_special_tokens(SPECIALS.map(|(token, _)| AddedToken::from(token, true)))?;

        // Python's regex leaves out U+0345, which is no letter, but one in upper case.
        let words = Regex::new(
            r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\u{345}]+",
        )?;
        Ok(Self { inner, words, byte_characters })
    }

    fn transformers(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        Ok(self.inner.encode(text, false)?.get_ids().to_vec())
    }

    fn open_ai(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let text = text_repair::fix_text(text);
        let text = html_references::unescape(&html_references::unescape(&text));
        let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
        let text = words.join(" ").to_lowercase();
        let mut ids = Vec::new();
        for word in self.words.find_iter(&text) {
            if let Some((_, id)) = SPECIALS.iter().find(|(token, _)| *token == word.as_str()) {
                ids.push(*id);
                continue;
            }
            let bytes: String = word.as_str().bytes().map(|byte| self.byte_characters[usize::from(byte)]).collect();
            ids.extend(self.inner.get_model().tokenize(&bytes)?.into_iter().map(|token| token.id));
        }
        Ok(ids)
    }
}

/// White space as Python's `str.split` has it: Unicode's, and four control characters.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// The character that stands for each byte: printable ones for themselves, the others from U+0100 on.
fn byte_characters() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str, reading: Reading) -> Vec<u32> {
        let tokens = encode(text, reading, 77).unwrap();
        assert_eq!(tokens.ids.len(), 77);
        assert!(tokens.ids[tokens.length..].iter().all(|&id| id == PAD));
        tokens.ids[1..tokens.length - 1].to_vec()
    }

    #[test]
    fn the_vocabulary_is_clips() {
        let vocabulary = TOKENIZER.as_ref().unwrap().inner.get_vocab(true);
        assert_eq!(vocabulary.len(), VOCABULARY);
        for (token, id) in [("!", 0), ("!</w>", 256), ("in", 512), ("jekyll</w>", 49_405), ("<|endoftext|>", END)] {
            assert_eq!(vocabulary.get(token), Some(&id), "{token}");
        }
    }

    #[test]
    fn readings_differ_where_they_should() {
        use Reading::{OpenAi, Transformers};
        for reading in [Transformers, OpenAi] {
            assert_eq!(ids("A photo of a cat", reading), [320, 1125, 539, 320, 2368]);
            assert!(ids("", reading).is_empty());
        }
        assert_eq!(ids("&amp;", Transformers), [261, 6259, 282]);
        assert_eq!(ids("&amp;", OpenAi), [261]);
        assert_eq!(ids("<|endoftext|>", Transformers), [END]);
        assert_eq!(ids("<|ENDOFTEXT|>", OpenAi), [END]);
        assert_ne!(ids("<|ENDOFTEXT|>", Transformers), [END]);
        assert_ne!(ids("schÃ¶n", Transformers), ids("schön", Transformers));
        assert_eq!(ids("schÃ¶n", OpenAi), ids("schön", OpenAi));
    }

    #[test]
    fn truncation_keeps_the_end() {
        let tokens = encode("a cat and a dog", Reading::Transformers, 4).unwrap();
        assert_eq!((tokens.ids, tokens.length, tokens.truncated), (vec![START, 320, 2368, END], 4, true));
        assert!(encode("a", Reading::OpenAi, 1).unwrap_err().contains("length"));
        assert!(!encode("a", Reading::OpenAi, 3).unwrap().truncated);
    }
}
