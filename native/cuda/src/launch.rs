//! A launch as a value.

use std::ffi::c_void;

/// Memory of the device; 0 is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// No memory: what an optional argument is without a value.
    pub const NONE: Address = Address(0);
}

/// What activations are stored as, and products computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// f32 throughout.
    F32,
    /// f16 with sums in f32.
    F16,
    /// bf16 with sums in f32.
    Bf16,
    /// Stored as f32; products read operands that [`crate::round_bf16`] has rounded.
    F32Bf16,
}

impl Element {
    /// As kernels of products are named, by what they give.
    pub fn product(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
            Element::F32Bf16 => "f32_bf16",
        }
    }

    /// As kernels are named that only see what is stored.
    pub fn stored(self) -> &'static str {
        match self {
            Element::F32 | Element::F32Bf16 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// As kernels are named that only see operands of products; their results are f32 or operands.
    pub fn operand(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 | Element::F32Bf16 => "bf16",
        }
    }
}

/// An argument of a kernel, of its exact type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer.
    Memory(Address),
    /// Sixteen pointers in a structure.
    Memories([u64; 16]),
    /// int
    Int(i32),
    /// unsigned
    Unsigned(u32),
    /// long long
    Long(i64),
    /// float
    Float(f32),
}

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Argument::Memory(address)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Argument::Float(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Argument::Int(value.into())
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Argument::Int(value)
    }
}

/// Sizes are ints.
///
/// # Panics
/// When a size is above 2^31 - 1; callers refuse such tensors.
impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        Argument::Int(i32::try_from(value).expect("a size fits in 31 bits"))
    }
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: String,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Dynamic shared memory, in bytes. Above 48 KiB the kernel's attribute has to be raised first.
    pub shared: u32,
    /// Arguments, in order.
    pub arguments: Vec<Argument>,
}

impl Launch {
    pub(crate) fn new(kernel: String, grid: [usize; 3], block: u32, shared: usize, arguments: Vec<Argument>) -> Self {
        let size = |n: usize| u32::try_from(n).expect("a grid fits in 31 bits");
        Self { kernel, grid: grid.map(size), block, shared: size(shared), arguments }
    }

    /// Whether a device can run it: no empty grid, and none beyond what CUDA allows.
    pub fn fits(&self) -> bool {
        let [x, y, z] = self.grid;
        x > 0 && y > 0 && z > 0 && x <= i32::MAX as u32 && y <= 65_535 && z <= 65_535
    }

    /// What `cuLaunchKernel` takes: a pointer to each argument. Valid while `self` is.
    pub fn parameters(&self) -> Vec<*mut c_void> {
        let pointer = |argument: &Argument| match argument {
            Argument::Memory(value) => std::ptr::from_ref(value).cast::<c_void>(),
            Argument::Memories(value) => value.as_ptr().cast(),
            Argument::Int(value) => std::ptr::from_ref(value).cast(),
            Argument::Unsigned(value) => std::ptr::from_ref(value).cast(),
            Argument::Long(value) => std::ptr::from_ref(value).cast(),
            Argument::Float(value) => std::ptr::from_ref(value).cast(),
        };
        self.arguments.iter().map(|argument| pointer(argument).cast_mut()).collect()
    }
}

/// The arguments of a kernel.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { vec![$($crate::launch::Argument::from($value)),*] };
}
pub(crate) use arguments;
