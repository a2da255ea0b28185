//! Learning a byte-pair vocabulary from word counts, the same on every run.
//!
//! The `tokenizers` crate has a trainer of its own, but it walks hash maps in an order that changes from run to run, and
//! the numbers of its tokens (and, through ties, its merges) change with it. A vocabulary is part of a model's identity,
//! so it is learnt here, with ordered maps and ties broken by token number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// The mark on a token that ends a word.
pub const END_OF_WORD: &str = "</w>";

/// A vocabulary (`tokens[id]`) and its merges in the order they were learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Token texts; the position is the token's id.
    pub tokens: Vec<String>,
    /// Pairs of token texts, the most valuable first.
    pub merges: Vec<(String, String)>,
}

type Pair = (u32, u32);

/// Learns at most `size` tokens from `words` (word -> count).
///
/// `specials` take the first ids. Every printable ASCII character is known (inside and at the end of a word), so that
/// a name nobody wrote in the captions is still spelt; of the other characters only the `alphabet` most frequent are.
/// Returns the smallest possible vocabulary (no merges) when `size` is smaller than that: the caller checks.
pub fn learn(words: &BTreeMap<String, u64>, specials: &[&str], alphabet: usize, size: usize) -> Vocabulary {
    let mut tokens: Vec<String> = specials.iter().map(|token| token.to_string()).collect();
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut known = |tokens: &mut Vec<String>, token: String| {
        *ids.entry(token).or_insert_with_key(|token| {
            tokens.push(token.clone());
            tokens.len() as u32 - 1
        })
    };
    let letters = alphabet_of(words, alphabet);
    for letter in &letters {
        known(&mut tokens, letter.to_string());
    }
    for letter in &letters {
        known(&mut tokens, format!("{letter}{END_OF_WORD}"));
    }

    // Each word as token ids; characters outside the alphabet are left out, as they will be <unk> for ever.
    let mut spelt: Vec<(Vec<u32>, u64)> = Vec::with_capacity(words.len());
    for (word, &count) in words {
        let last = word.chars().count().saturating_sub(1);
        let spelling = word.chars().enumerate().filter(|(_, letter)| letters.contains(letter));
        let spelling = spelling.map(|(at, letter)| match at == last {
            true => known(&mut tokens, format!("{letter}{END_OF_WORD}")),
            false => known(&mut tokens, letter.to_string()),
        });
        spelt.push((spelling.collect(), count));
    }

    let mut counts: HashMap<Pair, i64> = HashMap::new();
    let mut places: HashMap<Pair, BTreeSet<usize>> = HashMap::new();
    for (index, (word, count)) in spelt.iter().enumerate() {
        for pair in word.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += *count as i64;
            places.entry((pair[0], pair[1])).or_default().insert(index);
        }
    }
    let mut queue: BinaryHeap<(i64, Reverse<Pair>)> =
        counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();

    let mut merges = Vec::new();
    while tokens.len() < size {
        let Some((count, Reverse(pair))) = queue.pop() else { break };
        // An entry is stale once its pair's count has changed; a fresh one was queued at that moment.
        if counts.get(&pair).copied().unwrap_or(0) != count {
            continue;
        }
        if count < 1 {
            break;
        }
        let (left, right) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
        let merged = known(&mut tokens, format!("{left}{right}"));
        merges.push((left, right));
        let mut changed: BTreeSet<Pair> = BTreeSet::new();
        for index in places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut spelt[index];
            for old in word.windows(2) {
                *counts.entry((old[0], old[1])).or_default() -= *count as i64;
                changed.insert((old[0], old[1]));
            }
            *word = merge(word, pair, merged);
            for new in word.windows(2) {
                *counts.entry((new[0], new[1])).or_default() += *count as i64;
                places.entry((new[0], new[1])).or_default().insert(index);
                changed.insert((new[0], new[1]));
            }
        }
        counts.remove(&pair);
        for pair in changed {
            if let Some(&count) = counts.get(&pair).filter(|&&count| count > 0) {
                queue.push((count, Reverse(pair)));
            }
        }
    }
    Vocabulary { tokens, merges }
}

/// The characters that get a token: printable ASCII without capitals, and the `limit` most frequent others.
fn alphabet_of(words: &BTreeMap<String, u64>, limit: usize) -> BTreeSet<char> {
    let mut seen: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        for letter in word.chars().filter(|letter| !letter.is_ascii()) {
            *seen.entry(letter).or_default() += count;
        }
    }
    let mut others: Vec<(char, u64)> = seen.into_iter().collect();
    others.sort_by_key(|&(letter, count)| (Reverse(count), letter));
    let ascii = ('!'..='~').filter(|letter| !letter.is_ascii_uppercase());
    ascii.chain(others.into_iter().take(limit).map(|(letter, _)| letter)).collect()
}

/// `word` with every occurrence of `pair`, taken from the left, replaced by `merged`.
fn merge(word: &[u32], pair: Pair, merged: u32) -> Vec<u32> {
    let mut result = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
            result.push(merged);
            at += 2;
        } else {
            result.push(word[at]);
            at += 1;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
        words.iter().map(|(word, count)| (word.to_string(), *count)).collect()
    }

    #[test]
    fn frequent_pairs_merge_first() {
        let words = counts(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]);
        let learnt = learn(&words, &["<pad>"], 16, 400);
        let merges: Vec<String> = learnt.merges.iter().map(|(a, b)| format!("{a}+{b}")).collect();
        // "es" 9, then "est</w>" 9: the classic example of the byte-pair paper.
        assert_eq!(&merges[..2], ["e+s", "es+t</w>"]);
        assert!(learnt.tokens.contains(&"newest</w>".to_string()));
        assert_eq!(learnt.tokens[0], "<pad>");
    }

    #[test]
    fn size_is_respected_and_ids_are_unique() {
        let words = counts(&[("banana", 7), ("bandana", 3), ("cabana", 2)]);
        let base = learn(&words, &["<pad>"], 0, 0).tokens.len();
        let learnt = learn(&words, &["<pad>"], 0, base + 3);
        assert_eq!(learnt.tokens.len(), base + 3);
        assert_eq!(learnt.merges.len(), 3);
        assert_eq!(learnt.tokens.iter().collect::<BTreeSet<_>>().len(), learnt.tokens.len());
    }

    #[test]
    fn rare_characters_beyond_the_limit_have_no_token() {
        let words = counts(&[("é", 9), ("ñandú", 1)]);
        let learnt = learn(&words, &[], 2, 1000);
        // é 9, then ñ and ú tie at 1: the smaller character wins.
        assert!(learnt.tokens.contains(&"é".to_string()) && learnt.tokens.contains(&"ñ".to_string()));
        assert!(!learnt.tokens.iter().any(|token| token.contains('ú')));
    }

    #[test]
    fn overlapping_pairs_are_counted_once() {
        assert_eq!(merge(&[1, 1, 1], (1, 1), 2), [2, 1]);
        assert_eq!(merge(&[3, 1, 1, 1, 1], (1, 1), 2), [3, 2, 2]);
    }
}
