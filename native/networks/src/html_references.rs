//! Character references of HTML (`&amp;`, `&#39;`, `&#x27;`) to the characters they stand for, as HTML5 has it and as
//! Python's `html.unescape` does it.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The named references of the HTML standard but `NewLine;`: a line has a name, with its `;` if it ends in one, and the
/// characters.
const NAMES: &str = include_str!("html_references.txt");

/// Characters that a named reference is looked up in at most, as in Python.
const LONGEST_NAME: usize = 32;

/// What the references 0x80 to 0x9f mean: they were written for Windows-1252.
const WINDOWS: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

/// The characters of a name without its `&`, with its `;` if it has one.
pub(crate) fn named(name: &str) -> Option<&'static str> {
    static TABLE: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    let lines = || NAMES.lines().filter_map(|line| line.split_once('\t'));
    TABLE.get_or_init(|| lines().chain([("NewLine;", "\n")]).collect()).get(name).copied()
}

/// Replaces every reference of a text, also those without a semicolon where HTML allows that (`&ampb` is `&b`).
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let used = match rest.strip_prefix('#') {
            Some(digits) => by_number(digits, &mut out),
            None => by_name(rest, &mut out),
        };
        if used == 0 {
            out.push('&');
        }
        rest = &rest[used..];
    }
    out + rest
}

/// Bytes of the reference at the start of `rest`; 0 when there is none.
fn by_name(rest: &str, out: &mut String) -> usize {
    let mut end = 0;
    for (count, (at, character)) in rest.char_indices().enumerate() {
        if count == LONGEST_NAME || matches!(character, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';') {
            break;
        }
        end = at + character.len_utf8();
    }
    let longest = end + usize::from(end > 0 && rest[end..].starts_with(';'));
    // The longest name that the text begins with.
    let ends = rest[..longest].char_indices().map(|(at, character)| at + character.len_utf8()).rev();
    for end in ends.filter(|&end| end > 1) {
        if let Some(characters) = named(&rest[..end]) {
            out.push_str(characters);
            return end;
        }
    }
    0
}

/// As [`by_name`], for what follows a `#`; the `#` is counted.
fn by_number(digits: &str, out: &mut String) -> usize {
    let (radix, prefix) = if digits.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
    let digits = &digits[prefix..];
    let count = digits.bytes().take_while(|&digit| char::from(digit).is_digit(radix)).count();
    if count == 0 {
        return 0;
    }
    let number = digits[..count]
        .chars()
        .filter_map(|digit| digit.to_digit(radix))
        .fold(0u32, |number, digit| number.saturating_mul(radix).saturating_add(digit));
    match number {
        0 => out.push('\u{fffd}'),
        0x0d => out.push('\r'),
        0x80..=0x9f => out.extend(WINDOWS.chars().nth(number as usize - 0x80)),
        // Not characters of a text: HTML calls them errors, Python leaves them out.
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => {}
        _ if number <= 0x10_ffff && number & 0xfffe == 0xfffe => {}
        _ => out.push(char::from_u32(number).unwrap_or('\u{fffd}')),
    }
    1 + prefix + count + usize::from(digits[count..].starts_with(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_html_has_it() {
        // Recorded from Python's html.unescape.
        for (text, wanted) in [
            ("&amp;&lt;b&gt;&quot;", "&<b>\""),
            ("&amp;amp;", "&amp;"),
            ("&ampb &notit; &notin;", "&b ¬it; ∉"),
            ("&#39;&#x27;&#X27;&#39", "''''"),
            ("&#128;&#x9f;&#0;&#xD800;&#x110000;", "€Ÿ\u{fffd}\u{fffd}\u{fffd}"),
            ("&#1;&#x1f;&#xfffe;|&#13;|&#10;", "|\r|\n"),
            ("&eacute;t&eacute &nosuch; & &; &# &#x;", "été &nosuch; & &; &# &#x;"),
            ("&NotEqualTilde;&acE;", "≂̸∾̳"),
            ("&#99999999999999999999;", "\u{fffd}"),
            ("&CounterClockwiseContourIntegral;", "∳"),
            ("&é;&éamp;", "&é;&éamp;"),
        ] {
            assert_eq!(unescape(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!(NAMES.lines().count(), 2230);
        assert_eq!(named("amp"), Some("&"));
        assert_eq!(named("Tab;"), Some("\t"));
        assert_eq!(named("NewLine;"), Some("\n"));
    }
}
