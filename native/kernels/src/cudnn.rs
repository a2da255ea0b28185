//! Convolutions over pixels by NVIDIA's cuDNN, where it is there.
//!
//! Activations are (height, width, images, channels). To cuDNN they are one image with channels last, `height` high and
//! `width * images` wide: a tap to the side is `images` columns away, so that the convolution is one with that horizontal
//! dilation, and nothing has to be permuted. A horizontal stride cannot be said so; convolutions with strides stay with the
//! kernels of `kernels/cuda`, as does what cuDNN does not take.
//!
//! Numbers are f32. In f32, engines are taken that use neither tensor cores, which would round operands to TF32, nor other
//! shortcuts, nor an order of addition that changes from run to run. In bf16 tensor cores may round operands to TF32, which has
//! 11 bits where bf16 has 8: for operands of bf16 with results of f32 cuDNN has no compiled kernels, only ones that it compiles
//! where they run.
//!
//! This is cuDNN's graph interface, one operation to a graph; names, types and numbers of attributes are those of its header
//! `cudnn_graph_v9.h`. It is opened here and not by cudarc, which would link with it: nothing would open where it is missing.

use crate::cublas::Products;
use crate::taps::Space;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Error, Result};
use kinora_cuda::Address;
use libloading::Library;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{from_mut, from_ref, null_mut};
use std::result::Result as Either;
use std::sync::{Mutex, OnceLock};

/// Its file, by the name that each release of version 9 has.
const FILE: &str = "libcudnn.so.9";
/// Plans that take more memory than this, in bytes, are passed over.
const MOST_MEMORY: i64 = 512 << 20;
/// Tensors begin at a multiple of this, in bytes.
const ALIGNED: i64 = 16;

/// `cudnnBackendDescriptorType_t`
mod kind {
    pub const CONVOLUTION: i32 = 1;
    pub const ENGINE: i32 = 2;
    pub const CONFIGURATION: i32 = 3;
    pub const HEURISTICS: i32 = 4;
    pub const PLAN: i32 = 5;
    pub const FORWARD: i32 = 10;
    pub const TO_WEIGHT: i32 = 11;
    pub const TO_INPUT: i32 = 12;
    pub const GRAPH: i32 = 15;
    pub const VARIANT: i32 = 16;
    pub const TENSOR: i32 = 17;
}

/// `cudnnBackendAttributeName_t`
mod name {
    pub const CONVOLUTION_TYPE: i32 = 100;
    pub const CONVOLUTION_MODE: i32 = 101;
    pub const DILATIONS: i32 = 102;
    pub const STRIDES: i32 = 103;
    pub const POST_PADDINGS: i32 = 104;
    pub const PRE_PADDINGS: i32 = 105;
    pub const SPATIAL_DIMS: i32 = 106;
    pub const HEURISTICS_MODE: i32 = 200;
    pub const HEURISTICS_GRAPH: i32 = 201;
    pub const HEURISTICS_RESULTS: i32 = 202;
    pub const CONFIGURATION_ENGINE: i32 = 300;
    pub const PLAN_HANDLE: i32 = 400;
    pub const PLAN_CONFIGURATION: i32 = 401;
    pub const PLAN_WORKSPACE: i32 = 402;
    /// Of each operation: alpha, beta, the convolution, x, the weight and y.
    pub const FORWARD: [i32; 6] = [700, 701, 702, 704, 703, 705];
    pub const TO_INPUT: [i32; 6] = [706, 707, 708, 710, 709, 711];
    pub const TO_WEIGHT: [i32; 6] = [712, 713, 714, 716, 715, 717];
    pub const GRAPH_HANDLE: i32 = 800;
    pub const GRAPH_OPERATIONS: i32 = 801;
    pub const TENSOR_ALIGNMENT: i32 = 900;
    pub const TENSOR_TYPE: i32 = 901;
    pub const TENSOR_DIMENSIONS: i32 = 902;
    pub const TENSOR_STRIDES: i32 = 903;
    pub const TENSOR_ID: i32 = 906;
    pub const VARIANT_IDS: i32 = 1000;
    pub const VARIANT_POINTERS: i32 = 1001;
    pub const VARIANT_WORKSPACE: i32 = 1003;
    pub const ENGINE_NOTES: i32 = 1303;
}

const SUCCESS: c_int = 0;
/// `CUDNN_STATUS_NOT_SUPPORTED` and its kinds.
const NOT_SUPPORTED: std::ops::Range<c_int> = 3000..4000;
/// `CUDNN_DATA_FLOAT`
const FLOAT: c_int = 0;
const CROSS_CORRELATION: c_int = 1;
/// `CUDNN_HEUR_MODE_A`, and `CUDNN_HEUR_MODE_FALLBACK` for what that does not know.
const MODES: [c_int; 2] = [3, 2];
/// The only one of cuDNN's numerical notes that says nothing against an engine.
const STRICT_NAN: c_int = 9;
/// Of f32, it says that operands are rounded to TF32.
const TENSOR_CORES: c_int = 0;

/// A handle or a descriptor.
type Object = *mut c_void;
type Status = c_int;

/// What an attribute is set to.
enum Value<'a> {
    Handle(Object),
    DataType(c_int),
    Long(&'a [i64]),
    Float(f32),
    Pointers(&'a [Object]),
    ConvolutionMode(c_int),
    HeuristicsMode(c_int),
    Part(&'a Descriptor),
}

/// Of `cudnnBackendAttributeType_t`, those of attributes that are read as well.
const LONG: c_int = 3;
const NOTE: c_int = 11;
const PART: c_int = 15;

impl Value<'_> {
    /// The number of their type in `cudnnBackendAttributeType_t`, how many they are, and where.
    fn parts(&self) -> (c_int, i64, *const c_void) {
        match self {
            Self::Handle(value) => (0, 1, from_ref(value).cast()),
            Self::DataType(value) => (1, 1, from_ref(value).cast()),
            Self::Long(values) => (LONG, values.len() as i64, values.as_ptr().cast()),
            Self::Float(value) => (4, 1, from_ref(value).cast()),
            Self::Pointers(values) => (6, values.len() as i64, values.as_ptr().cast()),
            Self::ConvolutionMode(value) => (7, 1, from_ref(value).cast()),
            Self::HeuristicsMode(value) => (8, 1, from_ref(value).cast()),
            Self::Part(descriptor) => (PART, 1, from_ref(&descriptor.object).cast()),
        }
    }
}

/// A descriptor, destroyed with this.
struct Descriptor {
    object: Object,
    destroy: unsafe extern "C" fn(Object) -> Status,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was created, and nobody has it any more.
        unsafe { (self.destroy)(self.object) };
    }
}

/// What is computed of the three tensors of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    Forward,
    ToInput,
    ToWeight,
}

impl Pass {
    /// The operation, and the names of its attributes: alpha, beta, the convolution, x, the weight and y.
    fn operation(self) -> (c_int, [c_int; 6]) {
        match self {
            Self::Forward => (kind::FORWARD, name::FORWARD),
            Self::ToInput => (kind::TO_INPUT, name::TO_INPUT),
            Self::ToWeight => (kind::TO_WEIGHT, name::TO_WEIGHT),
        }
    }
}

/// A convolution over pixels with stride 1; the weight is (outputs, kernel height, kernel width, inputs).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PixelConvolution {
    pub space: Space,
    pub inputs: usize,
    pub outputs: usize,
    /// Whether operands may be rounded to TF32.
    pub rounded: bool,
}

/// How a pass is run.
struct Plan {
    plan: Descriptor,
    /// What it was made of, which it may refer to.
    _parts: Vec<Descriptor>,
    memory: usize,
}

/// cuDNN, and what was planned with it.
struct Cudnn {
    version: String,
    handle: Object,
    functions: Functions,
    /// Nothing where it has no plan.
    plans: HashMap<(PixelConvolution, Pass), Option<Plan>>,
}

// SAFETY: cuDNN's handles and descriptors may be used by one thread after the other, and a mutex holds them.
unsafe impl Send for Cudnn {}

#[derive(Clone, Copy)]
struct Functions {
    create: unsafe extern "C" fn(c_int, *mut Object) -> Status,
    set: unsafe extern "C" fn(Object, c_int, c_int, i64, *const c_void) -> Status,
    get: unsafe extern "C" fn(Object, c_int, c_int, i64, *mut i64, *mut c_void) -> Status,
    finalize: unsafe extern "C" fn(Object) -> Status,
    destroy: unsafe extern "C" fn(Object) -> Status,
    execute: unsafe extern "C" fn(Object, Object, Object) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
}

/// Looks a function up.
///
/// # Safety
/// `T` is its type.
unsafe fn function<T: Copy>(library: &'static Library, name: &str) -> Either<T, String> {
    // SAFETY: the caller's.
    unsafe { library.get::<T>(name) }.map(|found| *found).map_err(|_| format!("{FILE} has no {name}"))
}

fn checked(status: Status) -> Either<(), Status> {
    if status == SUCCESS { Ok(()) } else { Err(status) }
}

impl Functions {
    fn of(library: &'static Library) -> Either<Self, String> {
        // SAFETY: by the types in cuDNN's header.
        unsafe {
            Ok(Self {
                create: function(library, "cudnnBackendCreateDescriptor")?,
                set: function(library, "cudnnBackendSetAttribute")?,
                get: function(library, "cudnnBackendGetAttribute")?,
                finalize: function(library, "cudnnBackendFinalize")?,
                destroy: function(library, "cudnnBackendDestroyDescriptor")?,
                execute: function(library, "cudnnBackendExecute")?,
                error: function(library, "cudnnGetErrorString")?,
            })
        }
    }

    fn failed(&self, what: &str, status: Status) -> String {
        // SAFETY: it gives a constant for any number.
        let text = unsafe { CStr::from_ptr((self.error)(status)) };
        format!("cuDNN fails to {what}: {}; KINORA_CUDA_PRODUCTS=own does without it", text.to_string_lossy())
    }

    /// A descriptor for cuDNN to fill.
    fn empty(&self, kind: c_int) -> Either<Descriptor, Status> {
        let mut object = null_mut();
        // SAFETY: by its type.
        checked(unsafe { (self.create)(kind, &mut object) })?;
        Ok(Descriptor { object, destroy: self.destroy })
    }

    /// A descriptor of these attributes.
    fn described(&self, kind: c_int, attributes: &[(c_int, Value)]) -> Either<Descriptor, Status> {
        let descriptor = self.empty(kind)?;
        for (name, value) in attributes {
            let (of, count, values) = value.parts();
            // SAFETY: there are as many values of the type.
            checked(unsafe { (self.set)(descriptor.object, *name, of, count, values) })?;
        }
        // SAFETY: by its type.
        checked(unsafe { (self.finalize)(descriptor.object) })?;
        Ok(descriptor)
    }

    /// Reads up to as many values of an attribute as there is room for, and gives their number.
    fn read<T>(&self, from: &Descriptor, name: c_int, of: c_int, to: &mut [T]) -> Either<usize, Status> {
        let (mut count, room) = (0, to.len() as i64);
        let values = if room == 0 { null_mut() } else { to.as_mut_ptr().cast() };
        // SAFETY: there is room for as many values of the type.
        checked(unsafe { (self.get)(from.object, name, of, room, from_mut(&mut count), values) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// cuDNN, opened once; or why it is not used, in words.
fn cudnn(device: &CudaDevice) -> Either<&'static Mutex<Cudnn>, &'static str> {
    static CUDNN: OnceLock<Either<Mutex<Cudnn>, String>> = OnceLock::new();
    CUDNN.get_or_init(|| open(device).map(Mutex::new)).as_ref().map_err(String::as_str)
}

fn open(device: &CudaDevice) -> Either<Cudnn, String> {
    if crate::cublas::products()? == Products::Own {
        return Err("KINORA_CUDA_PRODUCTS is \"own\"".into());
    }
    // SAFETY: opening it runs NVIDIA's initialisers only. It is never closed.
    let library: &'static Library = match unsafe { Library::new(FILE) } {
        Ok(library) => Box::leak(Box::new(library)),
        Err(_) => return Err(format!("{FILE} does not open")),
    };
    let functions = Functions::of(library)?;
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().map_err(|error| error.to_string())?;
    // SAFETY: by the types in cuDNN's header.
    unsafe {
        let version: unsafe extern "C" fn() -> usize = function(library, "cudnnGetVersion")?;
        let create: unsafe extern "C" fn(*mut Object) -> Status = function(library, "cudnnCreate")?;
        let set_stream: unsafe extern "C" fn(Object, Object) -> Status = function(library, "cudnnSetStream")?;
        let mut handle = null_mut();
        checked(create(&mut handle)).map_err(|status| functions.failed("start", status))?;
        let stream = stream.cu_stream().cast();
        checked(set_stream(handle, stream)).map_err(|status| functions.failed("take the stream", status))?;
        let version = version();
        let version = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
        Ok(Cudnn { version, handle, functions, plans: HashMap::new() })
    }
}

/// The version of the cuDNN that convolutions of `device` use, or why they use none, in words.
pub(crate) fn version(device: &CudaDevice) -> Either<String, String> {
    let cudnn = cudnn(device)?;
    Ok(cudnn.lock().expect("no panic while held").version.clone())
}

/// Whether cuDNN takes a pass of a convolution.
pub(crate) fn takes(device: &CudaDevice, convolution: PixelConvolution, pass: Pass) -> Result<bool> {
    let Ok(cudnn) = cudnn(device) else { return Ok(false) };
    device.cuda_stream().context().bind_to_thread().w()?;
    Ok(cudnn.lock().expect("no panic while held").plan(convolution, pass)?.is_some())
}

/// Runs a pass of a convolution that cuDNN [`takes`], on x, the weight and y: on gradients in the places of what they belong
/// to. Gives false where cuDNN does not take it after all.
pub(crate) fn run(
    device: &CudaDevice,
    convolution: PixelConvolution,
    pass: Pass,
    addresses: [Address; 3],
) -> Result<bool> {
    if addresses.iter().any(|Address(at)| at % ALIGNED as u64 != 0) {
        return Ok(false);
    }
    let Ok(cudnn) = cudnn(device) else { return Ok(false) };
    let mut cudnn = cudnn.lock().expect("no panic while held");
    let (functions, handle) = (cudnn.functions, cudnn.handle);
    let Some(Plan { plan, memory, .. }) = cudnn.plan(convolution, pass)? else { return Ok(false) };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // Given back in the order of the stream, after the plan has used it.
    // SAFETY: plans write what they read there.
    let workspace = unsafe { device.alloc::<u8>((*memory).max(1)) }?;
    let workspace = [workspace.device_ptr(&stream).0 as Object];
    let pointers = addresses.map(|Address(at)| at as Object);
    let done = functions
        .described(
            kind::VARIANT,
            &[
                (name::VARIANT_IDS, Value::Long(&IDS)),
                (name::VARIANT_POINTERS, Value::Pointers(&pointers)),
                (name::VARIANT_WORKSPACE, Value::Pointers(&workspace)),
            ],
        )
        // SAFETY: the addresses are those of tensors of these shapes; all work is on the one stream.
        .and_then(|variant| checked(unsafe { (functions.execute)(handle, plan.object, variant.object) }));
    match done {
        Ok(()) => Ok(true),
        Err(status) if NOT_SUPPORTED.contains(&status) => {
            cudnn.plans.insert((convolution, pass), None);
            Ok(false)
        }
        Err(status) => Err(Error::msg(functions.failed("convolve", status))),
    }
}

/// What x, the weight and y are called in a graph.
const IDS: [i64; 3] = [1, 2, 3];

impl Cudnn {
    fn plan(&mut self, convolution: PixelConvolution, pass: Pass) -> Result<Option<&Plan>> {
        let Self { handle, functions, plans, .. } = self;
        Ok(match plans.entry((convolution, pass)) {
            Entry::Occupied(found) => found.into_mut().as_ref(),
            Entry::Vacant(place) => {
                let plan = match functions.planned(*handle, convolution, pass) {
                    Err(status) if NOT_SUPPORTED.contains(&status) => None,
                    other => other.map_err(|status| Error::msg(functions.failed("plan a convolution", status)))?,
                };
                place.insert(plan).as_ref()
            }
        })
    }
}

impl Functions {
    /// The quickest plan of those that round no more than they may, the same in each run.
    fn planned(&self, handle: Object, of: PixelConvolution, pass: Pass) -> Either<Option<Plan>, Status> {
        if of.space.stride != 1 {
            return Ok(None);
        }
        let mut parts = self.operation(of, pass)?;
        let operation = parts.last().expect("it was described");
        let graph = self.described(
            kind::GRAPH,
            &[(name::GRAPH_HANDLE, Value::Handle(handle)), (name::GRAPH_OPERATIONS, Value::Part(operation))],
        )?;
        for mode in MODES {
            for configuration in self.configurations(&graph, mode)? {
                if !self.allowed(&configuration, of.rounded)? {
                    continue;
                }
                let attributes = [
                    (name::PLAN_HANDLE, Value::Handle(handle)),
                    (name::PLAN_CONFIGURATION, Value::Part(&configuration)),
                ];
                // What the heuristics name need not run.
                let Ok(plan) = self.described(kind::PLAN, &attributes) else { continue };
                let mut memory = [0i64];
                self.read(&plan, name::PLAN_WORKSPACE, LONG, &mut memory)?;
                let [memory @ 0..=MOST_MEMORY] = memory else { continue };
                parts.extend([graph, configuration]);
                return Ok(Some(Plan { plan, _parts: parts, memory: memory as usize }));
            }
        }
        Ok(None)
    }

    /// The descriptors of a pass, the operation last.
    fn operation(
        &self,
        PixelConvolution { space, inputs, outputs, .. }: PixelConvolution,
        pass: Pass,
    ) -> Either<Vec<Descriptor>, Status> {
        let long = |size: usize| size as i64;
        let images = long(space.images);
        let tensor = |id: i64, [n, c, h, w]: [i64; 4]| {
            self.described(
                kind::TENSOR,
                &[
                    (name::TENSOR_TYPE, Value::DataType(FLOAT)),
                    (name::TENSOR_DIMENSIONS, Value::Long(&[n, c, h, w])),
                    // Channels last.
                    (name::TENSOR_STRIDES, Value::Long(&[h * w * c, 1, w * c, c])),
                    (name::TENSOR_ID, Value::Long(&[id])),
                    (name::TENSOR_ALIGNMENT, Value::Long(&[ALIGNED])),
                ],
            )
        };
        let ((out_height, out_width), (kernel_height, kernel_width)) = (space.output(), space.kernel);
        let [in_id, weight_id, out_id] = IDS;
        let x = tensor(in_id, [1, long(inputs), long(space.height), long(space.width) * images])?;
        let weight = tensor(weight_id, [long(outputs), long(inputs), long(kernel_height), long(kernel_width)])?;
        let y = tensor(out_id, [1, long(outputs), long(out_height), long(out_width) * images])?;
        let padding = [long(space.padding), long(space.padding) * images];
        let convolution = self.described(
            kind::CONVOLUTION,
            &[
                (name::CONVOLUTION_TYPE, Value::DataType(FLOAT)),
                (name::CONVOLUTION_MODE, Value::ConvolutionMode(CROSS_CORRELATION)),
                (name::SPATIAL_DIMS, Value::Long(&[2])),
                (name::DILATIONS, Value::Long(&[1, images])),
                (name::STRIDES, Value::Long(&[1, 1])),
                (name::PRE_PADDINGS, Value::Long(&padding)),
                (name::POST_PADDINGS, Value::Long(&padding)),
            ],
        )?;
        let (operation, [alpha, beta, of, x_name, weight_name, y_name]) = pass.operation();
        let operation = self.described(
            operation,
            &[
                (alpha, Value::Float(1.0)),
                (beta, Value::Float(0.0)),
                (of, Value::Part(&convolution)),
                (x_name, Value::Part(&x)),
                (weight_name, Value::Part(&weight)),
                (y_name, Value::Part(&y)),
            ],
        )?;
        Ok(vec![x, weight, y, convolution, operation])
    }

    /// What cuDNN would run a graph with, the quickest first.
    fn configurations(&self, graph: &Descriptor, mode: c_int) -> Either<Vec<Descriptor>, Status> {
        let attributes =
            [(name::HEURISTICS_GRAPH, Value::Part(graph)), (name::HEURISTICS_MODE, Value::HeuristicsMode(mode))];
        let heuristics = match self.described(kind::HEURISTICS, &attributes) {
            Err(status) if NOT_SUPPORTED.contains(&status) => return Ok(Vec::new()),
            other => other?,
        };
        let count = self.read::<Object>(&heuristics, name::HEURISTICS_RESULTS, PART, &mut [])?;
        let mut found = (0..count).map(|_| self.empty(kind::CONFIGURATION)).collect::<Either<Vec<_>, _>>()?;
        let mut objects: Vec<Object> = found.iter().map(|configuration| configuration.object).collect();
        let count = self.read(&heuristics, name::HEURISTICS_RESULTS, PART, &mut objects)?;
        found.truncate(count);
        Ok(found)
    }

    /// Whether a configuration computes in f32, or with `rounded` operands if they may be, and the same in each run.
    fn allowed(&self, configuration: &Descriptor, rounded: bool) -> Either<bool, Status> {
        let engine = self.empty(kind::ENGINE)?;
        self.read(configuration, name::CONFIGURATION_ENGINE, PART, &mut [engine.object])?;
        let mut notes = [STRICT_NAN; 32];
        let count = self.read(&engine, name::ENGINE_NOTES, NOTE, &mut notes)?;
        let fine = |note| note == STRICT_NAN || rounded && note == TENSOR_CORES;
        Ok(count <= notes.len() && notes.into_iter().all(fine))
    }
}
