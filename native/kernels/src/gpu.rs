//! Operations on NVIDIA's GPUs: candle's tensors as the memory of `kinora-cuda`'s launches.

use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};
use kinora_cuda::{Address, Argument, Element, Launch, module_of};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::Precision;

/// Dynamic shared memory that a kernel gets without being asked about.
const FREE_SHARED: u32 = 48 << 10;

/// How products compute in a precision.
pub(crate) fn element(precision: Precision) -> Element {
    match precision {
        Precision::F32 | Precision::Bf16x3 => Element::F32,
        Precision::Bf16 => Element::F32Bf16,
    }
}

/// Numbers on the device that an operation makes.
pub(crate) struct Floats {
    slice: CudaSlice<f32>,
    device: CudaDevice,
}

impl Floats {
    /// Room for numbers that a launch writes before anything reads them.
    pub fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        // SAFETY: by the promise above.
        Ok(Self { slice: unsafe { device.alloc::<f32>(len) }?, device: device.clone() })
    }

    /// A copy of the host's numbers.
    pub fn of(device: &CudaDevice, values: &[f32]) -> Result<Self> {
        Ok(Self { slice: device.clone_htod(values)?, device: device.clone() })
    }

    /// Where they are.
    pub fn at(&self) -> Address {
        address(&self.slice, &self.device)
    }

    /// As an operation's result.
    pub fn storage(self) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(self.slice, self.device)
    }

    /// As a tensor.
    pub fn tensor(self, shape: impl Into<Shape>) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage()), shape, BackpropOp::none(), false)
    }
}

/// Numbers that an operation needs while it is launched. They are kept for the next: to ask the driver for memory and to give
/// it back takes as long as a small kernel, and there is one stream, so that who comes next uses them after whoever was before.
pub(crate) struct Scratch {
    slice: Option<CudaSlice<f32>>,
    address: Address,
}

/// Kept numbers by how many they are, powers of two up to the largest that is kept.
static KEPT: LazyLock<Mutex<HashMap<usize, Vec<CudaSlice<f32>>>>> = LazyLock::new(Mutex::default);
const LARGEST_KEPT: usize = 16 << 20;

impl Scratch {
    /// Room for numbers that a launch writes before anything reads them.
    pub fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        let len = if len > LARGEST_KEPT { len } else { len.next_power_of_two() };
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&len).and_then(Vec::pop);
        let slice = match kept {
            Some(slice) => slice,
            // SAFETY: by the promise above.
            None => unsafe { device.alloc::<f32>(len) }?,
        };
        let address = address(&slice, device);
        Ok(Self { slice: Some(slice), address })
    }

    /// Where they are.
    pub fn at(&self) -> Address {
        self.address
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(slice) = self.slice.take() else { return };
        if slice.len() <= LARGEST_KEPT {
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).entry(slice.len()).or_default().push(slice);
        }
    }
}

/// All work of a device is on its one stream, in order: nothing has to wait for what was launched before, and memory is
/// not reused before what was launched has read it.
fn address(slice: &CudaSlice<f32>, device: &CudaDevice) -> Address {
    Address(slice.device_ptr(&device.cuda_stream()).0)
}

/// Where the contiguous f32 numbers of an operation's argument are.
pub(crate) fn argument(op: &str, storage: &CudaStorage, layout: &Layout) -> Result<Address> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("{op} needs a contiguous argument") };
    if end - start > i32::MAX as usize {
        bail!("{op} on a GPU takes tensors of at most {} numbers, not {}", i32::MAX, end - start);
    }
    let Address(first) = address(storage.as_cuda_slice::<f32>()?, &storage.device);
    Ok(Address(first + 4 * start as u64))
}

/// Runs `work` on where the numbers of tensors are, which are made contiguous first.
pub(crate) fn with_addresses<R, const N: usize>(
    op: &str,
    tensors: [&Tensor; N],
    work: impl FnOnce(&CudaDevice, [Address; N]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut held = Vec::with_capacity(N);
    for tensor in &tensors {
        held.push(tensor.as_ref().map_err(|error| candle_core::Error::msg(error.to_string()))?.storage_and_layout());
    }
    let mut addresses = [Address::NONE; N];
    let mut device = None;
    for (to, (storage, layout)) in addresses.iter_mut().zip(&held) {
        let Storage::Cuda(storage) = &**storage else { bail!("{op}: its tensors are on different devices") };
        *to = argument(op, storage, layout)?;
        device = Some(&storage.device);
    }
    match device {
        Some(device) => work(device, addresses),
        None => bail!("{op} needs an argument"),
    }
}

/// A kernel by its name, with as much shared memory as a launch wants: looked up once.
fn function(device: &CudaDevice, kernel: &str, shared: u32) -> Result<CudaFunction> {
    /// Kernels, and the dynamic shared memory that they may have.
    static FOUND: LazyLock<Mutex<HashMap<String, (CudaFunction, u32)>>> = LazyLock::new(Mutex::default);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if !found.contains_key(kernel) {
        let Some((module, ptx)) = module_of(kernel) else { bail!("there is no kernel {kernel}") };
        let function = device.get_or_load_custom_func(kernel, module, ptx)?.into_cuda_function();
        found.insert(kernel.to_owned(), (function, FREE_SHARED));
    }
    let (function, most) = found.get_mut(kernel).expect("it was put there");
    if shared > *most {
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared as i32).w()?;
        *most = shared;
    }
    Ok(function.clone())
}

/// Starts a kernel.
pub(crate) fn run(device: &CudaDevice, launch: &Launch) -> Result<()> {
    let Launch { kernel, grid: [x, y, z], block, shared, arguments } = launch;
    if !launch.fits() {
        bail!("{kernel}: a grid of {x} x {y} x {z} blocks is not one that a GPU runs");
    }
    let (function, stream) = (function(device, kernel, *shared)?, device.cuda_stream());
    let mut builder = stream.launch_builder(&function);
    for argument in arguments {
        match argument {
            Argument::Memory(Address(value)) => builder.arg(value),
            Argument::Int(value) => builder.arg(value),
            Argument::Unsigned(value) => builder.arg(value),
            Argument::Long(value) => builder.arg(value),
            Argument::Float(value) => builder.arg(value),
            Argument::Memories(_) => bail!("{kernel} takes tensors in a structure, which no operation here does"),
        };
    }
    let config = LaunchConfig { grid_dim: (*x, *y, *z), block_dim: (*block, 1, 1), shared_mem_bytes: *shared };
    // SAFETY: `kinora-cuda` gives each kernel the arguments it takes, which its tests check.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
