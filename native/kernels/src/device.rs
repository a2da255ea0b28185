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
    let device = Device::new_cuda(0).map_err(|error| format!("the GPU {name} cannot be used ({error})"))?;
    let cudnn = crate::cudnn::version(device.as_cuda_device().map_err(|error| error.to_string())?);
    Ok(Gpu { device, name, capability, memory, cudnn })
}

#[cfg(feature = "cuda")]
fn reason(error: &candle_core::cuda_backend::cudarc::driver::DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into_owned())
}
