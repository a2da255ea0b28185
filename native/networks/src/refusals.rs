//! Refusals of configurations and inputs: each names the field and what is accepted.

use candle_core::bail;
use std::ops::RangeInclusive;

/// Refuses a `_class_name` that is not `wanted`.
pub(crate) fn class_name(found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("_class_name must be {wanted}, not {found}")) }
}

/// Refuses a whole number outside `range`.
pub(crate) fn within(field: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{field} must be {} to {}, not {value}", range.start(), range.end()))
}

/// Refuses a list whose length is outside `length` or with an entry outside `range`.
pub(crate) fn each_within(
    field: &str,
    values: &[usize],
    length: RangeInclusive<usize>,
    range: RangeInclusive<usize>,
) -> Result<(), String> {
    if !length.contains(&values.len()) {
        return Err(format!("{field} must have {} to {} entries, not {}", length.start(), length.end(), values.len()));
    }
    values.iter().try_for_each(|&value| within(field, value, range.clone()))
}

/// Refuses a number that does not divide every one of `values`.
pub(crate) fn divides(field: &str, value: usize, of: &str, values: &[usize]) -> Result<(), String> {
    match values.iter().find(|&&whole| !whole.is_multiple_of(value)) {
        Some(whole) => Err(format!("{field} must divide every {of}, but {value} does not divide {whole}")),
        None => Ok(()),
    }
}

/// Refuses a number added to a variance outside 1e-12..=0.1.
pub(crate) fn small(field: &str, value: f64) -> Result<(), String> {
    if (1e-12..=0.1).contains(&value) {
        return Ok(());
    }
    Err(format!("{field} must be 1e-12 to 0.1, not {value}"))
}

/// The largest timestep that networks are told: that of the longest discrete schedule.
pub(crate) const LAST_TIMESTEP: f32 = 100_000.0;

/// Refuses an input that is not one number for each of `count` samples, every one of them in `range`.
pub(crate) fn numbers(
    field: &str,
    values: &[f32],
    count: usize,
    range: RangeInclusive<f32>,
) -> candle_core::Result<()> {
    if values.len() != count {
        bail!("{field} must have one number for each of {count} samples, not {}", values.len());
    }
    if let Some(bad) = values.iter().find(|value| !range.contains(value)) {
        bail!("{field} must be {} to {}, not {bad}", range.start(), range.end());
    }
    Ok(())
}
