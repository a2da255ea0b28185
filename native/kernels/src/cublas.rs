//! Products of matrices by NVIDIA's cuBLASLt: those of linear layers and 1x1 kernels, forward and backward.
//!
//! What cuBLASLt has no algorithm for is done by the kernels of `kernels/cuda`.

use crate::Precision;
use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Error, Result};
use kinora_cuda::Address;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::from_ref;
use std::sync::{Mutex, OnceLock};

/// Memory for algorithms that sum in parts: what NVIDIA recommends for GPUs from 9.0 on.
const WORKSPACE: usize = 32 << 20;
/// More than this an address need not be a multiple of.
const MOST_ALIGNED: u64 = 256;

/// Row-major f32 numbers on the device.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub at: Address,
    pub rows: usize,
    pub columns: usize,
}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    shapes: [(usize, usize); 3],
    turned: [bool; 2],
    bias: bool,
    bf16: bool,
    aligned: [u64; 3],
}

/// How a product is run; kept, because to choose takes longer than a small product.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    /// Nothing where cuBLASLt has no algorithm.
    plans: HashMap<Key, Option<Plan>>,
}

// SAFETY: cuBLASLt's handles are not bound to a thread, and a mutex holds them.
unsafe impl Send for Library {}

/// Whose products and convolutions run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Products {
    /// Those that were measured to be quickest.
    Quickest,
    /// NVIDIA's libraries' wherever they have them.
    Nvidias,
    /// The kernels of `kernels/cuda` alone.
    Own,
}

/// What `KINORA_CUDA_PRODUCTS` asks for: `nvidia`, `own`, or the quickest where it is not set.
pub(crate) fn products() -> std::result::Result<Products, String> {
    static PRODUCTS: OnceLock<std::result::Result<Products, String>> = OnceLock::new();
    let read = || match std::env::var("KINORA_CUDA_PRODUCTS").as_deref() {
        Err(_) => Ok(Products::Quickest),
        Ok("nvidia") => Ok(Products::Nvidias),
        Ok("own") => Ok(Products::Own),
        Ok(other) => Err(format!("KINORA_CUDA_PRODUCTS must be \"nvidia\" or \"own\", not {other:?}")),
    };
    PRODUCTS.get_or_init(read).clone()
}

/// The library, opened once; nothing where it is not wanted.
fn library(device: &CudaDevice) -> Result<Option<&'static Mutex<Library>>> {
    static LIBRARY: OnceLock<std::result::Result<Option<Mutex<Library>>, String>> = OnceLock::new();
    let open = || {
        if products()? == Products::Own {
            return Ok(None);
        }
        let handle = result::create_handle().map_err(|error| format!("cuBLASLt does not open ({error})"))?;
        // SAFETY: algorithms write what they read there.
        let workspace = unsafe { device.alloc::<u8>(WORKSPACE) }.map_err(|error| error.to_string())?;
        Ok(Some(Mutex::new(Library { handle, workspace, plans: HashMap::new() })))
    };
    LIBRARY.get_or_init(open).as_ref().map(Option::as_ref).map_err(Error::msg)
}

/// `d = a bᵀ + bias`, with `a` or `b` turned before where `turned` says so; `bias` is a row or none.
///
/// Gives false, and does nothing, where cuBLASLt is not wanted or has no algorithm.
pub(crate) fn product(
    device: &CudaDevice,
    precision: Precision,
    [a, b, d]: [Matrix; 3],
    turned: [bool; 2],
    bias: Address,
) -> Result<bool> {
    let Some(library) = library(device)? else { return Ok(false) };
    let mut library = library.lock().expect("no panic while held");
    let Library { handle, workspace, plans } = &mut *library;
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // To cuBLASLt, which counts columns first, the rows are columns: dᵀ = b aᵀ.
    let key = Key {
        shapes: [b, a, d].map(|matrix| (matrix.columns, matrix.rows)),
        turned: [!turned[1], turned[0]],
        bias: bias != Address::NONE,
        bf16: precision == Precision::Bf16,
        aligned: [b, a, d].map(|matrix| 1 << matrix.at.0.trailing_zeros().min(MOST_ALIGNED.trailing_zeros())),
    };
    let plan = match plans.entry(key) {
        std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
        // SAFETY: by the types of the attributes.
        std::collections::hash_map::Entry::Vacant(place) => place.insert(unsafe { planned(*handle, key) }?),
    };
    let Some(Plan { product, layouts: [lb, la, ld], algorithm }) = plan else { return Ok(false) };
    let [one, zero] = [1f32, 0f32];
    let pointer = |Address(at): Address| at as *mut c_void;
    // SAFETY: the addresses are those of tensors of these shapes; all work is on the one stream.
    unsafe {
        if bias != Address::NONE {
            set(*product, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.0)?;
        }
        result::matmul(
            *handle,
            *product,
            from_ref(&one).cast(),
            from_ref(&zero).cast(),
            pointer(b.at),
            *lb,
            pointer(a.at),
            *la,
            pointer(d.at),
            *ld,
            pointer(d.at),
            *ld,
            algorithm,
            pointer(Address(workspace.device_ptr(&stream).0)),
            WORKSPACE,
            stream.cu_stream().cast(),
        )
        .map_err(failed)?;
    }
    Ok(true)
}

/// Describes a product and asks for an algorithm.
unsafe fn planned(handle: sys::cublasLtHandle_t, key: Key) -> Result<Option<Plan>> {
    use sys::cublasLtMatmulDescAttributes_t as Of;
    use sys::cublasLtMatmulPreferenceAttributes_t as Prefer;
    let f32 = sys::cudaDataType_t::CUDA_R_32F;
    let arithmetic = if key.bf16 {
        // Operands are rounded to bf16, as our own kernels and the processor do.
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF
    } else {
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
    };
    let product = result::create_matmul_desc(arithmetic, f32).map_err(failed)?;
    let layout =
        |(rows, columns): (usize, usize)| result::create_matrix_layout(f32, rows as u64, columns as u64, rows as i64);
    let [b, a, d] = key.shapes;
    let layouts = [layout(b).map_err(failed)?, layout(a).map_err(failed)?, layout(d).map_err(failed)?];
    let preference = result::create_matmul_pref().map_err(failed)?;
    // SAFETY: each attribute has the type that cuBLASLt's documentation names.
    unsafe {
        for (of, turned) in
            [Of::CUBLASLT_MATMUL_DESC_TRANSA, Of::CUBLASLT_MATMUL_DESC_TRANSB].into_iter().zip(key.turned)
        {
            set(product, of, &i32::from(turned))?;
        }
        if key.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            set(product, Of::CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as i32))?;
        }
        let prefer = |what, value: *const c_void, size| {
            result::set_matmul_pref_attribute(preference, what, value, size).map_err(failed)
        };
        prefer(Prefer::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, from_ref(&WORKSPACE).cast(), size_of::<usize>())?;
        let [b, a, d] = key.aligned.map(|bytes| bytes as u32);
        for (what, bytes) in [
            (Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
            (Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
            (Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d),
            (Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d),
        ] {
            prefer(what, from_ref(&bytes).cast(), size_of::<u32>())?;
        }
        let [lb, la, ld] = layouts;
        let found = result::get_matmul_algo_heuristic(handle, product, lb, la, ld, ld, preference);
        result::destroy_matmul_pref(preference).map_err(failed)?;
        match found {
            Ok(found) => Ok(Some(Plan { product, layouts, algorithm: found.algo })),
            Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Sets an attribute of a product.
unsafe fn set<T>(product: sys::cublasLtMatmulDesc_t, of: sys::cublasLtMatmulDescAttributes_t, to: &T) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { result::set_matmul_desc_attribute(product, of, from_ref(to).cast(), size_of::<T>()) }.map_err(failed)
}

fn failed(error: result::CublasError) -> Error {
    Error::msg(format!("cuBLASLt fails: {error}"))
}
