//! The kernels as PTX.

use std::collections::HashMap;
use std::sync::OnceLock;

/// (name, PTX) of each file of kernels.
static MODULES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The name and the PTX of the module that holds a kernel.
pub fn module_of(kernel: &str) -> Option<(&'static str, &'static str)> {
    static PLACES: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    let places = PLACES.get_or_init(|| {
        let entries = |(at, (_, ptx)): (usize, &(&'static str, &'static str))| {
            ptx.split(".entry ").skip(1).filter_map(move |rest| Some((rest.split('(').next()?.trim(), at)))
        };
        MODULES.iter().enumerate().flat_map(entries).collect()
    });
    places.get(kernel).map(|&at| MODULES[at])
}
