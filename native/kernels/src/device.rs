//! The GPU, where this library can use one.

use candle_core::{Device, Result};

/// In an operation of candle's: on a GPU it runs by its `gpu_forward`, which takes the storage and the layout of each
/// argument.
macro_rules! on_gpus {
    ($($x:ident $layout:ident),+) => {
        #[cfg(feature = "cuda")]
        fn cuda_fwd(
            &self,
            $($x: &candle_core::CudaStorage, $layout: &Layout),+
        ) -> Result<(candle_core::CudaStorage, Shape)> {
            self.gpu_forward($(($x, $layout)),+)
        }
    };
}
pub(crate) use on_gpus;

/// A GPU that operations run on.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Where tensors go.
    pub device: Device,
    /// What its driver calls it.
    pub name: String,
    /// Its compute capability.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory: usize,
    /// The version of NVIDIA's cuDNN, which convolutions over pixels in f32 use; or why they use none, in words.
    pub cudnn: std::result::Result<String, String>,
}

/// Whether operations for GPUs were built in.
pub const BUILT_FOR_GPUS: bool = cfg!(feature = "cuda");

/// The first GPU; opened once, and the same for all.
///
/// # Errors
/// Says in a sentence why there is none: the build, the driver, or the GPU itself.
#[cfg(not(feature = "cuda"))]
pub fn gpu() -> Result<Gpu> {
    candle_core::bail!("this native library was built without CUDA")
}

/// The first GPU; opened once, and the same for all.
///
/// # Errors
/// Says in a sentence why there is none: the build, the driver, or the GPU itself.
#[cfg(feature = "cuda")]
pub fn gpu() -> Result<Gpu> {
    use std::sync::OnceLock;
    static GPU: OnceLock<std::result::Result<Gpu, String>> = OnceLock::new();
    GPU.get_or_init(open).clone().map_err(candle_core::Error::msg)
}

/// The least compute capability: that of the instructions which the kernels use.
#[cfg(feature = "cuda")]
const LEAST: (i32, i32) = (8, 0);

#[cfg(feature = "cuda")]
fn open() -> std::result::Result<Gpu, String> {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    // Device::new_cuda would make handles before anything is known of the GPU.
    let context = CudaContext::new(0).map_err(|error| format!("NVIDIA's driver opens no GPU ({})", reason(&error)))?;
    let about = || -> std::result::Result<_, candle_core::cuda_backend::cudarc::driver::DriverError> {
        Ok((context.name()?, context.compute_capability()?, context.total_mem()?))
    };
    let (name, capability, memory) =
        about().map_err(|error| format!("the GPU does not say what it is ({})", reason(&error)))?;
    if capability < LEAST {
        let ((major, minor), (least_major, least_minor)) = (capability, LEAST);
        return Err(format!(
            "the GPU {name} has compute capability {major}.{minor}, and {least_major}.{least_minor} is needed"
        ));
    }
    // One stream for all threads: candle's plain device has one a thread, whose work nothing would order.
    let device = Device::new_cuda_with_stream(0).map_err(|error| format!("the GPU {name} cannot be used ({error})"))?;
    keep_memory(&context);
    let cuda = device.as_cuda_device().map_err(|error| error.to_string())?;
    // SAFETY: there is no other stream that tensors would have to be watched for, with two events for each.
    unsafe { cuda.disable_event_tracking() };
    let cudnn = crate::cudnn::version(cuda);
    Ok(Gpu { device, name, capability, memory, cudnn })
}

/// Lets the driver keep memory that is given back for what is asked for next: by default it returns it to the system at each
/// wait for the GPU, and takes it anew.
#[cfg(feature = "cuda")]
fn keep_memory(context: &candle_core::cuda_backend::cudarc::driver::CudaContext) {
    use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool::set_attribute};
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    if !context.has_async_alloc() {
        return;
    }
    let mut threshold = u64::MAX;
    // SAFETY: the device is the context's, and the attribute is a number of 64 bits. A driver that refuses is slower.
    let _ = unsafe {
        get_default_mem_pool(context.cu_device())
            .and_then(|pool| set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast()))
    };
}

#[cfg(feature = "cuda")]
fn reason(error: &candle_core::cuda_backend::cudarc::driver::DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into_owned())
}
