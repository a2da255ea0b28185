//! Repairs of what goes wrong with text on its way: misread encodings, references of HTML, curly quotes, ligatures,
//! double widths, control characters. The steps and their order are those of `ftfy.fix_text` (ftfy 6.3.1, Robyn Speer,
//! Apache-2.0; see THIRD_PARTY.md) with its defaults, because OpenAI's CLIP saw its training texts through it.

use crate::html_references;
use crate::mojibake::{self, ENCODINGS, Encoding};
use regex::{Regex, bytes};
use std::sync::OnceLock;
use tokenizers::NormalizedString;

/// The most characters that are repaired together; texts are cut at line ends first.
const LONGEST_SEGMENT: usize = 1_000_000;

/// Rounds after which repairing stops even if each still changes something; ordinary text takes two.
const MOST_ROUNDS: usize = 100;

/// The repaired text.
pub(crate) fn fix_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // A "<" says that this is HTML, whose references are meant to stay, from its line on.
    let mut html = false;
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let end = rest[..line].char_indices().nth(LONGEST_SEGMENT).map_or(line, |(at, _)| at);
        let (segment, further) = rest.split_at(end);
        html |= segment.contains('<');
        out.push_str(&fix_segment(segment, !html));
        rest = further;
    }
    out
}

fn fix_segment(segment: &str, unescape: bool) -> String {
    let mut text = segment.to_owned();
    for _ in 0..MOST_ROUNDS {
        let mut next = if unescape { unescape_references(&text) } else { text.clone() };
        next = fix_encoding(&next);
        next = plain_characters(&mojibake::without_c1_controls(&next));
        next = next.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
        next = without_terminal_escapes(&next);
        next.retain(|character| !is_control(character));
        next = composed(&next);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Replaces references that end in a semicolon, and names of letters in capitals as in `&EACUTE;`.
fn unescape_references(text: &str) -> String {
    static EXPRESSION: OnceLock<Regex> = OnceLock::new();
    let expression = EXPRESSION.get_or_init(|| regex("&#?[0-9A-Za-z]{1,24};"));
    let replacement = |found: &regex::Captures| {
        let whole = &found[0];
        let name = &whole[1..];
        if let Some(characters) = html_references::named(name) {
            return characters.to_owned();
        }
        let unescaped = html_references::unescape(whole);
        if name.starts_with('#') {
            return if unescaped.contains(';') { whole.to_owned() } else { unescaped };
        }
        let lower = name.to_ascii_lowercase();
        match html_references::named(&lower) {
            Some(characters) if name == lower.to_ascii_uppercase() && unescaped == whole => characters.to_uppercase(),
            _ => whole.to_owned(),
        }
    };
    expression.replace_all(text, replacement).into_owned()
}

/// Undoes misreadings, one after the other.
fn fix_encoding(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MOST_ROUNDS {
        match fix_encoding_once(&text) {
            Some(fixed) if fixed != text => text = fixed,
            _ => break,
        }
    }
    text
}

fn fix_encoding_once(text: &str) -> Option<String> {
    if text.is_ascii() || !mojibake::is_bad(text) {
        return None;
    }
    for encoding in &ENCODINGS {
        let Some(bytes) = encoding.encode(text) else { continue };
        if let Some(fixed) = decode(encoding, bytes) {
            return Some(fixed);
        }
    }
    let mended = mend_stretches(text);
    if mended != text {
        return Some(mended);
    }
    // Latin-1 that was meant as Windows-1252.
    Some(mojibake::without_c1_controls(text))
}

/// The bytes as UTF-8, after repairs of what was lost of them.
fn decode(encoding: &Encoding, mut bytes: Vec<u8>) -> Option<String> {
    // In MacRoman the sequences would be a dash and a space.
    if encoding.name != "macroman" && altered_utf8().is_match(&bytes) {
        bytes = restore_no_break_spaces(&bytes);
    }
    if encoding.lossy {
        bytes = lossy_utf8().replace_all(&bytes, "\u{fffd}".as_bytes()).into_owned();
    }
    if bytes.contains(&0xed) || bytes.contains(&0xc0) { decode_variant(&bytes) } else { String::from_utf8(bytes).ok() }
}

/// UTF-8 sequences in which a space took the place of the byte 0xa0.
fn altered_utf8() -> &'static bytes::Regex {
    static EXPRESSION: OnceLock<bytes::Regex> = OnceLock::new();
    EXPRESSION.get_or_init(|| {
        bytes_regex(&[
            r"[\xc2\xc3\xc5\xce\xd0\xd9] ",
            r"[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]",
            r"[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] ",
            r"\xf0 [\x80-\xbf][\x80-\xbf]",
            r"\xf0[\x80-\xbf] [\x80-\xbf]",
            r"\xf0[\x80-\xbf][\x80-\xbf] ",
        ])
    })
}

/// UTF-8 sequences of which bytes were lost: 0x1a, or once a question mark, stands for them.
fn lossy_utf8() -> &'static bytes::Regex {
    static EXPRESSION: OnceLock<bytes::Regex> = OnceLock::new();
    EXPRESSION.get_or_init(|| {
        bytes_regex(&[
            r"[\xc2-\xdf]\x1a",
            r"[\xc2-\xc3]\?",
            r"\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
            r"\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
            r"[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
            r"[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
            r"[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
            r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
            r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
            r"\x1a",
        ])
    })
}

fn restore_no_break_spaces(bytes: &[u8]) -> Vec<u8> {
    // A lone à keeps the space after it, except where Portuguese writes one word.
    let mut spaced = Vec::with_capacity(bytes.len() + 8);
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        spaced.push(byte);
        rest = after;
        if byte == 0xc3
            && let Some(word) = rest.strip_prefix(b" ")
            && ![&b" "[..], b"quele", b"quela", b"quilo", b"s "].iter().any(|joined| word.starts_with(joined))
        {
            spaced.push(0xa0);
        }
    }
    let restored = |found: &bytes::Captures| -> Vec<u8> {
        found[0].iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }).collect()
    };
    altered_utf8().replace_all(&spaced, restored).into_owned()
}

/// UTF-8 in which characters beyond U+FFFF may be pairs of surrogates, and U+0000 may be `C0 80`, as Java writes them.
fn decode_variant(bytes: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    // Where a further byte is wanted, a line feed that ends the text counts as one, as in the original.
    let further = |at: usize, least: u8, most: u8| -> Option<u32> {
        let &byte = bytes.get(at)?;
        ((least..=most).contains(&byte) || (byte == b'\n' && at + 1 == bytes.len())).then_some(byte.into())
    };
    while at < bytes.len() {
        match &bytes[at..] {
            [0xc0, ..] if further(at + 1, 0x80, 0x80).is_some() => {
                plain.push(0);
                at += 2;
            }
            [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, _, ..]
                if let Some(d) = further(at + 5, 0x80, 0xbf) =>
            {
                let bits = |byte: u8, mask: u8| u32::from(byte & mask);
                let number = (bits(*a, 0x0f) << 16) + (bits(*b, 0x3f) << 10) + (bits(*c, 0x0f) << 6) + (d & 0x3f);
                let character = char::from_u32(number + 0x1_0000)?;
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
            }
            [byte, ..] => {
                plain.push(*byte);
                at += 1;
            }
            [] => break,
        }
    }
    String::from_utf8(plain).ok()
}

/// Mends what looks like misread UTF-8 within a text that as a whole is none.
fn mend_stretches(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some((start, end)) = mojibake::find(text, at) {
        out.push_str(&text[at..start]);
        let stretch = &text[start..end];
        if stretch.len() < text.len() && mojibake::is_bad(stretch) {
            out.push_str(&fix_encoding(stretch));
        } else {
            out.push_str(stretch);
        }
        at = end;
    }
    out + &text[at..]
}

/// Takes ligatures of Latin letters apart, gives characters their standard width, and makes quotes straight.
fn plain_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'Ĳ' => out.push_str("IJ"),
            'ĳ' => out.push_str("ij"),
            'ŉ' => out.push_str("'n"),
            'Ǳ' => out.push_str("DZ"),
            'ǲ' => out.push_str("Dz"),
            'ǳ' => out.push_str("dz"),
            'Ǆ' => out.push_str("DŽ"),
            'ǅ' => out.push_str("Dž"),
            'ǆ' => out.push_str("dž"),
            'Ǉ' => out.push_str("LJ"),
            'ǈ' => out.push_str("Lj"),
            'ǉ' => out.push_str("lj"),
            'Ǌ' => out.push_str("NJ"),
            'ǋ' => out.push_str("Nj"),
            'ǌ' => out.push_str("nj"),
            'ﬀ' => out.push_str("ff"),
            'ﬁ' => out.push_str("fi"),
            'ﬂ' => out.push_str("fl"),
            'ﬃ' => out.push_str("ffi"),
            'ﬄ' => out.push_str("ffl"),
            'ﬅ' => out.push_str("ſt"),
            'ﬆ' => out.push_str("st"),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => {
                let mut wide = NormalizedString::from(character.encode_utf8(&mut [0; 4]) as &str);
                out.push_str(wide.nfkc().get());
            }
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            _ => out.push(character),
        }
    }
    out
}

fn without_terminal_escapes(text: &str) -> String {
    static EXPRESSION: OnceLock<Regex> = OnceLock::new();
    EXPRESSION.get_or_init(|| regex(r"\x1b\[[\d;]*[a-zA-Z]")).replace_all(text, "").into_owned()
}

/// Characters that show nothing and are hardly ever meant.
fn is_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
    )
}

fn composed(text: &str) -> String {
    let mut normalized = NormalizedString::from(text);
    normalized.nfc().get().to_owned()
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the expressions of this file are valid")
}

fn bytes_regex(alternatives: &[&str]) -> bytes::Regex {
    let pattern = format!("(?-u){}", alternatives.join("|"));
    bytes::Regex::new(&pattern).expect("the expressions of this file are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_those_of_ftfy() {
        // Recorded from ftfy 6.3.1; the first ones are examples of its documentation.
        for (text, wanted) in [
            ("âœ” No problems", "✔ No problems"),
            ("&macr;\\_(ã\u{83}\u{84})_/&macr;", "¯\\_(ツ)_/¯"),
            ("Broken text&hellip; it&#x2019;s ﬂubberiﬁc!", "Broken text… it's flubberific!"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "LOUD NOISES"),
            ("schÃ¶n &amp; P&EACUTE;REZ", "schön & PÉREZ"),
            ("voilÃ le travail", "voilà le travail"),
            ("â€œ like this â€\u{fffd}", "\" like this \u{fffd}"),
            ("<b>&amp;</b>\n&amp;", "<b>&amp;</b>\n&amp;"),
            ("&amp;\n<b>", "&\n<b>"),
            ("a\r\nb\u{2028}c\u{85}d", "a\nb\nc…d"),
            ("\x1b[36;44mblue\x1b[0m\u{feff}", "blue"),
            ("e\u{301} ŉ Ｕﾀｰﾝ", "é 'n Uターン"),
            ("", ""),
        ] {
            assert_eq!(fix_text(text), wanted, "{text:?}");
        }
    }
}
