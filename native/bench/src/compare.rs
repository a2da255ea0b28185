//! How far results are from recorded ones.

use crate::Error;
use crate::case::Tensors;
use candle_core::Tensor;
use std::path::Path;

/// The largest relative error of the groups of tensors in `file`: |ours - theirs| / |theirs|, lengths being taken over
/// all tensors whose names begin alike up to the first `/`, so that gradients which are nearly zero count as what they
/// are in the whole gradient. Infinite where a number is not finite.
///
/// # Errors
/// The file cannot be read, or names and shapes are not the same on both sides.
pub fn with_file(results: &Tensors, file: &Path) -> Result<f64, Error> {
    let theirs = kinora_networks::tensor_file::read(file, &mut |_, _| true)?.tensors;
    if theirs.len() != results.len() {
        return Err(format!("{} results are compared with {}", results.len(), theirs.len()).into());
    }
    let mut groups = std::collections::BTreeMap::<String, (f64, f64)>::new();
    for (name, theirs) in &theirs {
        let ours = results.get(name).ok_or_else(|| format!("the result {name:?} is missing"))?;
        if ours.elem_count() != theirs.elem_count() {
            return Err(format!("{name}: {:?} is compared with {:?}", ours.shape(), theirs.shape()).into());
        }
        let group = name.split('/').next().unwrap_or_default().to_owned();
        let (difference, length) = groups.entry(group).or_default();
        for (ours, theirs) in values(ours)?.iter().zip(&values(theirs)?) {
            let (ours, theirs) = (f64::from(*ours), f64::from(*theirs));
            *difference += (ours - theirs).powi(2);
            *length += theirs.powi(2);
        }
    }
    let error = |(difference, length): &(f64, f64)| (difference / length.max(f64::MIN_POSITIVE)).sqrt();
    // JSON has no infinity.
    let finite = |error: f64| if error.is_finite() { error } else { f64::MAX };
    Ok(groups.values().map(error).map(finite).fold(0.0, f64::max))
}

fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use kinora_networks::tensor_file::{StoredAs, write};
    use std::collections::BTreeMap;

    fn error(ours: &[(&str, [f32; 2])], theirs: &[(&str, [f32; 2])]) -> Result<f64, Error> {
        let tensor = |values: &[f32; 2]| Tensor::from_slice(values, 2, &Device::Cpu).unwrap();
        let ours = ours.iter().map(|(name, values)| (name.to_string(), tensor(values))).collect();
        let theirs: BTreeMap<_, _> = theirs.iter().map(|(name, values)| (name.to_string(), tensor(values))).collect();
        let id = std::thread::current().id();
        let path = std::env::temp_dir().join(format!("kinora-bench-{}-{id:?}.safetensors", std::process::id()));
        write(&path, &theirs, StoredAs::F32, &BTreeMap::new(), &mut |_, _| true).unwrap();
        let result = with_file(&ours, &path);
        std::fs::remove_file(path).unwrap();
        result
    }

    #[test]
    fn errors_are_relative_and_taken_over_each_group() {
        assert_eq!(error(&[("y", [3.0, 4.0])], &[("y", [3.0, 4.0])]).unwrap(), 0.0);
        assert_eq!(error(&[("y", [3.0, 4.5])], &[("y", [3.0, 4.0])]).unwrap(), 0.1);
        // A gradient of nothing is measured by the length of the others; the worst group counts.
        let theirs = [("gradient/a", [3.0, 4.0]), ("gradient/b", [0.0, 0.0]), ("loss", [1.0, 0.0])];
        let ours = [("gradient/a", [3.0, 4.0]), ("gradient/b", [0.0, 0.5]), ("loss", [1.0, 0.0])];
        assert_eq!(error(&ours, &theirs).unwrap(), 0.1);
        assert_eq!(error(&[("y", [f32::NAN, 0.0])], &[("y", [1.0, 0.0])]).unwrap(), f64::MAX);
    }

    #[test]
    fn other_names_are_refused() {
        assert!(error(&[("y", [1.0, 1.0])], &[("dx", [1.0, 1.0])]).is_err());
        assert!(error(&[("y", [1.0, 1.0])], &[("y", [1.0, 1.0]), ("dx", [1.0, 1.0])]).is_err());
    }
}
