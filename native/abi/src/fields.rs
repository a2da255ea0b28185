//! Typed access to a JSON request, refusing by field name.
//!
//! ```
//! use kinora::fields::fields;
//! let request = serde_json::json!({ "verb": "x", "height": 64, "filter": "area" });
//! let f = fields(&request, &["height", "filter", "fill"]).unwrap();
//! assert_eq!(f.u32("height", 1..=8192).unwrap(), 64);
//! assert_eq!(f.number_or("fill", -1.0..=1.0, 0.0).unwrap(), 0.0);
//! assert!(fields(&request, &["height"]).err().unwrap().message.contains("filter"));
//! ```

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use candle_core::Tensor;
use serde_json::{Map, Value};

use crate::context::Refusal;
use crate::handles;

/// The largest whole number that JavaScript holds exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The most numbers a tensor may hold (8 GiB of f32).
pub const MAX_ELEMENTS: usize = 1 << 31;

/// The most axes a tensor may have.
pub const MAX_RANK: usize = 6;

/// The fields of one JSON object, with the path that messages name them by.
#[derive(Clone)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

/// The fields of a request. Refuses what is no object and every key outside `known` (`verb` is always known).
pub fn fields<'a>(request: &'a Value, known: &[&str]) -> Result<Fields<'a>, Refusal> {
    let map = request.as_object().ok_or_else(|| Refusal::new("the request must be a JSON object"))?;
    Fields { map, path: String::new() }.only(known)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 48 { text } else { text.chars().take(45).chain("...".chars()).collect() }
}

impl<'a> Fields<'a> {
    fn only(self, known: &[&str]) -> Result<Self, Refusal> {
        for key in self.map.keys() {
            let is_verb = self.path.is_empty() && key == "verb";
            if !is_verb && !known.contains(&key.as_str()) {
                let key: String = key.chars().take(64).collect();
                let accepted = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Refusal::new(format!(
                    "unknown field {}{key:?}: the accepted fields are {accepted}",
                    self.place()
                )));
            }
        }
        Ok(self)
    }

    fn place(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("in {} ", self.path) }
    }

    /// The full name of a field, for messages of the caller's own.
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.into() } else { format!("{}.{field}", self.path) }
    }

    /// A refusal that begins with the full name of a field.
    pub fn refuse(&self, field: &str, rest: impl Display) -> Refusal {
        Refusal::new(format!("{} {rest}", self.name(field)))
    }

    fn wanted(&self, field: &str, wanted: impl Display) -> Refusal {
        match self.map.get(field) {
            None | Some(Value::Null) => self.refuse(field, format!("is missing: it must be {wanted}")),
            Some(value) => self.refuse(field, format!("must be {wanted}, not {}", shown(value))),
        }
    }

    /// Whether a field is given and not null.
    pub fn has(&self, field: &str) -> bool {
        !matches!(self.map.get(field), None | Some(Value::Null))
    }

    /// The raw value of a field, refused when it is missing.
    pub fn value(&self, field: &str) -> Result<&'a Value, Refusal> {
        self.map.get(field).filter(|v| !v.is_null()).ok_or_else(|| self.refuse(field, "is missing"))
    }

    /// Reads a field with `read` where it is given.
    pub fn optional<T>(
        &self,
        field: &str,
        read: impl FnOnce(&Self) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        if self.has(field) { read(self).map(Some) } else { Ok(None) }
    }

    /// A whole number within a range.
    pub fn u64(&self, field: &str, range: RangeInclusive<u64>) -> Result<u64, Refusal> {
        self.map
            .get(field)
            .and_then(whole)
            .filter(|n| range.contains(n))
            .ok_or_else(|| self.wanted(field, format_args!("a whole number from {} to {}", range.start(), range.end())))
    }

    /// A whole number within a range.
    pub fn u32(&self, field: &str, range: RangeInclusive<u32>) -> Result<u32, Refusal> {
        Ok(self.u64(field, (*range.start()).into()..=(*range.end()).into())? as u32)
    }

    /// A whole number within a range, as a length or index.
    pub fn usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<usize, Refusal> {
        Ok(self.u64(field, *range.start() as u64..=*range.end() as u64)? as usize)
    }

    /// As [`Fields::u32`], with a value for a field that is not given.
    pub fn u32_or(&self, field: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32, Refusal> {
        if self.has(field) { self.u32(field, range) } else { Ok(default) }
    }

    /// A number within a range; NaN and infinities have no JSON form and so cannot be given.
    pub fn number(&self, field: &str, range: RangeInclusive<f64>) -> Result<f64, Refusal> {
        self.map
            .get(field)
            .and_then(Value::as_f64)
            .filter(|n| range.contains(n))
            .ok_or_else(|| self.wanted(field, number_wanted(&range)))
    }

    /// As [`Fields::number`], with a value for a field that is not given.
    pub fn number_or(&self, field: &str, range: RangeInclusive<f64>, default: f64) -> Result<f64, Refusal> {
        if self.has(field) { self.number(field, range) } else { Ok(default) }
    }

    /// `true` or `false`; false when not given.
    pub fn flag(&self, field: &str) -> Result<bool, Refusal> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wanted(field, "true or false")),
        }
    }

    /// A text.
    pub fn str(&self, field: &str) -> Result<&'a str, Refusal> {
        self.map.get(field).and_then(Value::as_str).ok_or_else(|| self.wanted(field, "a text"))
    }

    /// One of a few words, mapped to a value.
    pub fn choice<T: Copy>(&self, field: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
        let given = self.map.get(field).and_then(Value::as_str);
        choices.iter().find(|(word, _)| Some(*word) == given).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.wanted(field, format_args!("one of {}", words.join(", ")))
        })
    }

    /// A path: a text that is neither empty nor holds a NUL.
    pub fn path(&self, field: &str) -> Result<PathBuf, Refusal> {
        match self.map.get(field).and_then(Value::as_str) {
            Some(text) if !text.is_empty() && !text.contains('\0') => Ok(PathBuf::from(text)),
            _ => Err(self.wanted(field, "a path")),
        }
    }

    /// The items of a list.
    pub fn array(&self, field: &str) -> Result<&'a [Value], Refusal> {
        self.map.get(field).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| self.wanted(field, "a list"))
    }

    fn list<T>(
        &self,
        field: &str,
        item: impl Fn(&'a Value) -> Option<T>,
        wanted: impl Display,
    ) -> Result<Vec<T>, Refusal> {
        let Some(values) = self.map.get(field).and_then(Value::as_array) else {
            return Err(self.wanted(field, format_args!("a list of {wanted}")));
        };
        let mut out = Vec::with_capacity(values.len());
        for (i, value) in values.iter().enumerate() {
            out.push(item(value).ok_or_else(|| {
                self.refuse(field, format_args!("must hold {wanted}, not {} at position {i}", shown(value)))
            })?);
        }
        Ok(out)
    }

    /// A list of whole numbers, each within a range.
    pub fn whole_numbers(&self, field: &str, range: RangeInclusive<u64>) -> Result<Vec<u64>, Refusal> {
        self.list(
            field,
            |v| whole(v).filter(|n| range.contains(n)),
            format_args!("whole numbers from {} to {}", range.start(), range.end()),
        )
    }

    /// A list of numbers, each within a range.
    pub fn numbers(&self, field: &str, range: RangeInclusive<f64>) -> Result<Vec<f64>, Refusal> {
        let wanted = format!("numbers from {} to {}", range.start(), range.end());
        self.list(field, |v| v.as_f64().filter(|n| range.contains(n)), wanted)
    }

    /// A list of texts.
    pub fn texts(&self, field: &str) -> Result<Vec<&'a str>, Refusal> {
        self.list(field, Value::as_str, "texts")
    }

    /// The shape of a tensor: 1 to [`MAX_RANK`] axes of at least 1, at most [`MAX_ELEMENTS`] numbers in all.
    pub fn shape(&self, field: &str) -> Result<Vec<usize>, Refusal> {
        let shape: Vec<usize> =
            self.whole_numbers(field, 1..=u32::MAX.into())?.into_iter().map(|n| n as usize).collect();
        check_shape(&shape).map_err(|why| self.refuse(field, why))?;
        Ok(shape)
    }

    /// The handle in a field.
    pub fn handle(&self, field: &str) -> Result<u32, Refusal> {
        self.map
            .get(field)
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| self.wanted(field, "a handle"))
    }

    /// The object whose handle is in a field.
    pub fn object<T: handles::Object>(&self, field: &str) -> Result<std::sync::Arc<T>, Refusal> {
        handles::get::<T>(self.handle(field)?).map_err(|refusal| refusal.at(self.name(field)))
    }

    /// The tensor whose handle is in a field.
    pub fn tensor(&self, field: &str) -> Result<Tensor, Refusal> {
        handles::tensor(self.handle(field)?).map_err(|refusal| refusal.at(self.name(field)))
    }

    /// The tensors whose handles are listed in a field.
    pub fn tensors(&self, field: &str) -> Result<Vec<Tensor>, Refusal> {
        let handles = self.whole_numbers(field, 0..=u32::MAX.into())?;
        let read = |(i, handle): (usize, &u64)| {
            handles::tensor(*handle as u32).map_err(|refusal| refusal.at(format_args!("{}[{i}]", self.name(field))))
        };
        handles.iter().enumerate().map(read).collect()
    }

    /// The fields of a nested object, with keys outside `known` refused.
    pub fn nested(&self, field: &str, known: &[&str]) -> Result<Fields<'a>, Refusal> {
        self.map_of(field)?.only(known)
    }

    /// The fields of a nested object with keys of the caller's choice; read them with [`Fields::keys`].
    pub fn map_of(&self, field: &str) -> Result<Fields<'a>, Refusal> {
        let map = self.map.get(field).and_then(Value::as_object).ok_or_else(|| self.wanted(field, "an object"))?;
        Ok(Fields { map, path: self.name(field) })
    }

    /// The names of the fields that are given.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.keys().map(String::as_str)
    }

    /// The fields of each object of a list, with keys outside `known` refused.
    pub fn each(&self, field: &str, known: &[&str]) -> Result<Vec<Fields<'a>>, Refusal> {
        let item = |(i, value): (usize, &'a Value)| {
            let map = value.as_object().ok_or_else(|| {
                self.refuse(field, format_args!("must hold objects, not {} at position {i}", shown(value)))
            })?;
            Fields { map, path: format!("{}[{i}]", self.name(field)) }.only(known)
        };
        self.array(field)?.iter().enumerate().map(item).collect()
    }
}

/// Whole numbers may arrive as `3` or `3.0`; JavaScript does not tell them apart.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let n = value.as_f64()?;
        (n >= 0.0 && n <= MAX_SAFE_INTEGER as f64 && n.fract() == 0.0).then_some(n as u64)
    })
}

fn number_wanted(range: &RangeInclusive<f64>) -> String {
    match (range.start().is_finite(), range.end().is_finite()) {
        (true, true) => format!("a number from {} to {}", range.start(), range.end()),
        (true, false) => format!("a number of at least {}", range.start()),
        (false, true) => format!("a number of at most {}", range.end()),
        (false, false) => "a number".into(),
    }
}

/// Whether a shape can be that of a tensor; the error goes on from the name of the field.
pub fn check_shape(shape: &[usize]) -> Result<usize, String> {
    if shape.is_empty() || shape.len() > MAX_RANK {
        return Err(format!("must have 1 to {MAX_RANK} axes, not {}", shape.len()));
    }
    if shape.contains(&0) {
        return Err(format!("must have axes of at least 1, not {shape:?}"));
    }
    shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| format!("must hold at most {MAX_ELEMENTS} numbers, which {shape:?} exceeds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message<T>(result: Result<T, Refusal>) -> String {
        result.err().expect("a refusal").message
    }

    #[test]
    fn refusals_name_the_field_and_what_is_accepted() {
        let request = json!({ "verb": "v", "height": -3, "filter": "cubic", "terms": [{ "scale": 1 }, { "scal": 1 }], "text": 3 });
        let known = ["height", "filter", "terms", "text", "width"];
        let f = fields(&request, &known).unwrap();
        assert_eq!(message(f.u32("height", 1..=8192)), "height must be a whole number from 1 to 8192, not -3");
        assert_eq!(message(f.u32("width", 1..=2)), "width is missing: it must be a whole number from 1 to 2");
        assert_eq!(
            message(f.choice("filter", &[("area", 1), ("nearest", 2)])),
            r#"filter must be one of "area", "nearest", not "cubic""#
        );
        assert_eq!(
            message(f.each("terms", &["scale"])),
            r#"unknown field in terms[1] "scal": the accepted fields are scale"#
        );
        assert_eq!(message(f.str("text")), "text must be a text, not 3");
        assert!(message(fields(&request, &["height"])).starts_with("unknown field"));
        assert!(message(fields(&json!([1]), &[])).contains("JSON object"));
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        let request = json!({ "a": 3.0, "b": 3.5, "c": 1e300, "d": [1, 2.0] });
        let f = fields(&request, &["a", "b", "c", "d"]).unwrap();
        assert_eq!(f.u32("a", 0..=9).unwrap(), 3);
        assert!(f.u32("b", 0..=9).is_err() && f.u64("c", 0..=MAX_SAFE_INTEGER).is_err());
        assert_eq!(f.whole_numbers("d", 0..=9).unwrap(), vec![1, 2]);
    }

    #[test]
    fn shapes_are_bounded() {
        assert_eq!(check_shape(&[2, 3]), Ok(6));
        assert!(check_shape(&[]).is_err() && check_shape(&[1; 7]).is_err() && check_shape(&[0]).is_err());
        assert!(check_shape(&[usize::MAX, 2]).is_err() && check_shape(&[1 << 16, 1 << 16]).is_err());
    }
}
