//! Tells the library for GPUs where NVIDIA's libraries are that it was linked with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=KINORA_CUDA_LIBRARIES");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Ok(folder) = std::env::var("KINORA_CUDA_LIBRARIES") {
        // As a RUNPATH, which LD_LIBRARY_PATH goes before.
        println!("cargo::rustc-link-arg-cdylib=-Wl,--enable-new-dtags,-rpath,{folder}");
    }
}
