//! Compiles the kernels to PTX, where they are wanted: `nvcc` has to be on the path.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What every GPU from compute capability 8.0 on takes; its driver makes code of it.
const TARGET: &str = "-arch=compute_80";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_PTX").is_none() {
        return;
    }
    let kernels = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../kernels/cuda");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed={}", kernels.display());
    let mut modules = Vec::new();
    for entry in fs::read_dir(&kernels).expect("the kernels are there") {
        let path = entry.expect("the kernels are there").path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            modules.push(path.file_stem().expect("a name").to_str().expect("ASCII").to_owned());
        }
    }
    modules.sort();
    let mut list = String::new();
    for module in &modules {
        let (source, ptx) = (kernels.join(format!("{module}.cu")), format!("{out}/{module}.ptx"));
        let mut nvcc = Command::new("nvcc");
        nvcc.args(["-std=c++17", "-O3", "-ptx", TARGET]).arg(&source).args(["-o", &ptx]);
        match nvcc.status() {
            Ok(status) if status.success() => {}
            Ok(status) => fail(&format!("nvcc does not compile {} ({status})", source.display())),
            Err(error) => fail(&format!(
                "the CUDA kernels need NVIDIA's compiler nvcc, which does not run ({error}): \
                 `deno task build --features cuda` finds it, or says how to get it"
            )),
        }
        list += &format!("(\"{module}\", include_str!(r\"{ptx}\")),\n");
    }
    fs::write(format!("{out}/modules.rs"), format!("&[\n{list}]")).expect("the folder of the build can be written");
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}
