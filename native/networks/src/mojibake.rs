//! Text that was written in UTF-8 and read as something else: `schÃ¶n`. What it looks like, and the encodings it was read
//! as. The tables and expressions are those of ftfy 6.3.1 (Robyn Speer, Apache-2.0; see THIRD_PARTY.md), which finds them.

use regex::Regex;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A single-byte encoding that texts are wrongly read as. Bytes below 0x80 are ASCII in all of them.
pub(crate) struct Encoding {
    /// What it is called.
    pub name: &'static str,
    /// The characters of the bytes 0x80 to 0xff; bytes without one stand for the control character of their number.
    upper: &'static str,
    /// Whether the byte 0x1a stands for U+FFFD instead of itself: bytes that were lost are told by it.
    pub lossy: bool,
}

/// The encodings in the order they are tried in.
pub(crate) const ENCODINGS: [Encoding; 10] = [
    Encoding {
        name: "latin-1",
        upper: "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        lossy: false,
    },
    Encoding {
        name: "windows-1252",
        upper: "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        lossy: true,
    },
    Encoding {
        name: "windows-1251",
        upper: "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
        lossy: true,
    },
    Encoding {
        name: "windows-1250",
        upper: "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
        lossy: true,
    },
    Encoding {
        name: "windows-1253",
        upper: "€\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ",
        lossy: true,
    },
    Encoding {
        name: "windows-1254",
        upper: "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
        lossy: true,
    },
    Encoding {
        name: "windows-1257",
        upper: "€\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
        lossy: true,
    },
    Encoding {
        name: "iso-8859-2",
        upper: "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
        lossy: false,
    },
    Encoding {
        name: "macroman",
        upper: "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
        lossy: false,
    },
    Encoding {
        name: "cp437",
        upper: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
        lossy: false,
    },
];

impl Encoding {
    /// The bytes of a text, if the encoding has all its characters.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        static TABLES: OnceLock<HashMap<&str, HashMap<char, u8>>> = OnceLock::new();
        let tables = TABLES.get_or_init(|| {
            let table = |encoding: &Encoding| encoding.upper.chars().zip(0x80..=0xff).collect();
            ENCODINGS.iter().map(|encoding| (encoding.name, table(encoding))).collect()
        });
        let upper = tables.get(self.name)?;
        text.chars()
            .map(|character| match character {
                '\u{fffd}' if self.lossy => Some(0x1a),
                '\x1a' if self.lossy => None,
                '\0'..='\x7f' => Some(character as u8),
                _ => upper.get(&character).copied(),
            })
            .collect()
    }
}

/// What Windows-1252 has where Latin-1 has control characters.
pub(crate) fn without_c1_controls(text: &str) -> String {
    let windows = ENCODINGS[1].upper;
    let replaced = |character: char| match character {
        '\u{80}'..='\u{9f}' => windows.chars().nth(character as usize - 0x80).unwrap_or(character),
        _ => character,
    };
    text.chars().map(replaced).collect()
}

// Characters that occur where UTF-8 was misread, by what else they are used for; the insides of a regular expression's
// brackets.
const COMMON: &str = "\u{a0}\u{ad}·´–—―…’";
const C1: &str = "\u{80}-\u{9f}";
const BAD: &str = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº";
const LAW: &str = "¶§";
const CURRENCY: &str = "¢£¥₧€";
const START: &str = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
const END: &str = "®»˝”›™";
const NUMERIC: &str = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
const KAOMOJI: &str = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
const UPPER: &str = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER: &str = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
const UPPER_COMMON: &str = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
const LOWER_COMMON: &str = "α-ωάέήίΰа-џ";
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";

/// Whether a text has a sequence of characters that is hardly ever meant.
pub(crate) fn is_bad(text: &str) -> bool {
    static EXPRESSION: OnceLock<Regex> = OnceLock::new();
    EXPRESSION.get_or_init(|| expression(&unlikely())).is_match(text)
}

/// The first stretch at or after `from` that looks like misread UTF-8, so that it may be mended by itself.
pub(crate) fn find(text: &str, mut from: usize) -> Option<(usize, usize)> {
    // Bytes of UTF-8 as the encodings show them: those that begin a sequence of 2, 3 or 4, and those that go on. A space
    // may have been U+00A0.
    const FIRST_OF_2: &str = "Â-ßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒ-ΡΣ-ίВ-Я";
    const FIRST_OF_3: &str = "à-ïāăąćčďēėęěģīįķĺļŕźΰ-οа-п";
    const FIRST_OF_4: &str = "ðóđğšπσру";
    const FURTHER_STRICT: &str = "\u{80}-¿ÆØæøĄąĽľŁłŒœŖŗŚśŞ-šŤťŸ-žƒˆˇ˘˛-˝΄-ΆΈ-ΊΌΎΏЁ-ЌЎЏё-ќўџҐґ†‡‰‹›€№™";
    const FURTHER_LOOSE: &str = " –-―‘-‚“-„•…";
    static EXPRESSIONS: OnceLock<(Regex, Regex)> = OnceLock::new();
    let (sequences, further) = EXPRESSIONS.get_or_init(|| {
        let further = format!("[{FURTHER_STRICT}{FURTHER_LOOSE}]");
        let pattern = format!("(?:[{FIRST_OF_2}]{further}|[{FIRST_OF_3}]{further}{{2}}|[{FIRST_OF_4}]{further}{{3}})+");
        (expression(&pattern), expression(&format!("[{FURTHER_STRICT}]")))
    });
    // In the midst of a longer garble nothing is mended: a match must not follow a byte that goes on.
    while let Some(found) = sequences.find_at(text, from) {
        let before = text[..found.start()].chars().next_back();
        if !before.is_some_and(|before| further.is_match(before.encode_utf8(&mut [0; 4]))) {
            return Some((found.start(), found.end()));
        }
        from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
    }
    None
}

fn expression(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the expressions of this file are valid")
}

fn unlikely() -> String {
    let windows_1252 = format!("[{COMMON}{CURRENCY}{BAD}{NUMERIC}{START}ŸŠ®°µ»]");
    [
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}]"),
        format!("[{LOWER}{LOWER_COMMON}{BOX}{END}{CURRENCY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{END}{CURRENCY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{END}][{CURRENCY}]"),
        format!("[\\s\\x1c-\\x1f][{UPPER}][{CURRENCY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{CURRENCY}{END}][{START}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{BOX}{LAW}][{END}][{START}]"),
        format!("[{CURRENCY}{NUMERIC}{BOX}][{START}]"),
        format!("[a-z][{UPPER}][{START}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{START}{END}{LAW}][{BOX}]"),
        format!("[{BOX}][{END}]"),
        format!("[{LOWER}{UPPER}][{START}{END}][\\p{{L}}\\p{{N}}_]"),
        "[Œœ][^A-Za-z]".into(),
        format!("[{UPPER}]°"),
        // Windows-1252, of Western and then of Arabic and South Asian texts.
        format!("[ÂÃÎÐ][€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»{START}{END}–—´]"),
        "×[²³]".into(),
        format!("[ØÙ]{windows_1252}[ØÙ]{windows_1252}"),
        "à[²µ¹¼½¾]".into(),
        // MacRoman.
        "√[±∂†≠®™´≤≥¥µø]".into(),
        "≈[°¢]".into(),
        "‚Ä[ìîïòôúùû†°¢π]".into(),
        "‚[âó][àä°ê]".into(),
        // Windows-1251.
        "вЂ".into(),
        format!("[ВГРС][{C1}{BAD}{START}{END}{CURRENCY}°µ][ВГРС]"),
        "ГўВЂВ.[A-Za-z ]".into(),
        // Windows-1252 again: à, á and U+00A0, and characters after Â that were encoded as themselves.
        "Ã[\u{a0}¡]".into(),
        "[a-z][\\s\\x1c-\\x1f]?[ÃÂ][ ]".into(),
        "^[ÃÂ][ ]".into(),
        format!("[a-z.,?!{END}]Â[ {START}{END}]"),
        // Windows-1253.
        "β€[™\u{a0}Ά\u{ad}®°]".into(),
        format!("[ΒΓΞΟ][{C1}{BAD}{START}{END}{CURRENCY}°][ΒΓΞΟ]"),
        // Windows-1257.
        "ā€".into(),
    ]
    .join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_have_128_different_characters() {
        for encoding in &ENCODINGS {
            assert_eq!(encoding.upper.chars().count(), 128, "{}", encoding.name);
            let bytes = encoding.encode(encoding.upper).unwrap();
            assert_eq!(bytes, (0x80..=0xff).collect::<Vec<u8>>(), "{}", encoding.name);
        }
        assert_eq!(ENCODINGS[0].encode("€"), None);
        assert_eq!(ENCODINGS[1].encode("a\u{fffd}€"), Some(vec![b'a', 0x1a, 0x80]));
    }

    #[test]
    fn misread_text_is_told_from_text() {
        for bad in ["schÃ¶n", "â€œbrokenâ€", "doesnâ€™t", "Ã ", "РџСЂРёРІРµС‚ вЂ", "├⌐", "a\u{85}"]
        {
            assert!(is_bad(bad), "{bad}");
        }
        for good in ["", "schön", "“quoted”", "Ångström", "Привет", "naïve café", "5 €", "ça va ?", "Ü"]
        {
            assert!(!is_bad(good), "{good}");
        }
        assert_eq!(find("x schÃ¶n", 0), Some((5, 9)));
        assert_eq!(find("x schÃ¶n", 9), None);
    }
}
