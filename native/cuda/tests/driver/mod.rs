//! Just enough of CUDA's driver to run launches: of a GPU's libcuda, or of the one that runs kernels on the host.
//!
//! `KINORA_CUDA_DRIVER` names the library, `KINORA_CUDA_MODULES` a folder of PTX or cubins (the host's driver needs none).

use kinora_cuda::{Address, Launch};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Status = u32;
type LaunchKernel =
    unsafe extern "C" fn(usize, u32, u32, u32, u32, u32, u32, u32, usize, *const *mut c_void, *const c_void) -> Status;

pub struct Driver {
    library: usize,
    context: usize,
    modules: Vec<usize>,
}

/// The largest dynamic shared memory of a kernel, as an attribute of a function.
const MAX_DYNAMIC_SHARED: c_int = 8;

impl Driver {
    /// The driver of this process, its context made current on this thread.
    pub fn get() -> &'static Driver {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        let driver = DRIVER.get_or_init(Driver::open);
        unsafe {
            driver.check(driver.function::<unsafe extern "C" fn(usize) -> Status>("cuCtxSetCurrent")(driver.context))
        };
        driver
    }

    fn open() -> Driver {
        let path = std::env::var("KINORA_CUDA_DRIVER").expect("KINORA_CUDA_DRIVER names a libcuda");
        let path = CString::new(path).unwrap();
        let library = unsafe { dlopen(path.as_ptr(), 2) } as usize;
        assert_ne!(library, 0, "{path:?} does not open");
        let mut driver = Driver { library, context: 0, modules: Vec::new() };
        unsafe {
            driver.check(driver.function::<unsafe extern "C" fn(u32) -> Status>("cuInit")(0));
            let mut device = 0;
            type Get = unsafe extern "C" fn(*mut c_int, c_int) -> Status;
            driver.check(driver.function::<Get>("cuDeviceGet")(&mut device, 0));
            type Retain = unsafe extern "C" fn(*mut usize, c_int) -> Status;
            let mut context = 0;
            driver.check(driver.function::<Retain>("cuDevicePrimaryCtxRetain")(&mut context, device));
            driver.context = context;
            driver.check(driver.function::<unsafe extern "C" fn(usize) -> Status>("cuCtxSetCurrent")(context));
            let mut images = vec![vec![0u8]];
            if let Ok(folder) = std::env::var("KINORA_CUDA_MODULES") {
                images = std::fs::read_dir(folder)
                    .unwrap()
                    .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                    .collect();
            }
            for mut image in images {
                // PTX is text that ends with a zero.
                image.push(0);
                type Load = unsafe extern "C" fn(*mut usize, *const u8) -> Status;
                let mut module = 0;
                driver.check(driver.function::<Load>("cuModuleLoadData")(&mut module, image.as_ptr()));
                driver.modules.push(module);
            }
        }
        driver
    }

    unsafe fn function<F: Copy>(&self, name: &str) -> F {
        let name = CString::new(name).unwrap();
        let address = unsafe { dlsym(self.library as *mut c_void, name.as_ptr()) };
        assert!(!address.is_null(), "the driver has no {name:?}");
        unsafe { std::mem::transmute_copy(&address) }
    }

    #[track_caller]
    fn check(&self, status: Status) {
        assert_eq!(status, 0, "the driver refuses");
    }

    /// Runs a launch to its end.
    #[track_caller]
    pub fn run(&self, launch: &Launch) {
        assert!(launch.fits(), "{launch:?}");
        let name = CString::new(launch.kernel.as_str()).unwrap();
        let mut function = 0usize;
        unsafe {
            type Find = unsafe extern "C" fn(*mut usize, usize, *const c_char) -> Status;
            let find: Find = self.function("cuModuleGetFunction");
            let found = self.modules.iter().any(|module| find(&mut function, *module, name.as_ptr()) == 0);
            assert!(found, "there is no kernel {name:?}");
            if launch.shared > 48 << 10 {
                type Set = unsafe extern "C" fn(usize, c_int, c_int) -> Status;
                let set: Set = self.function("cuFuncSetAttribute");
                self.check(set(function, MAX_DYNAMIC_SHARED, launch.shared as c_int));
            }
            let [x, y, z] = launch.grid;
            let parameters = launch.parameters();
            let start: LaunchKernel = self.function("cuLaunchKernel");
            let shared = launch.shared;
            self.check(start(function, x, y, z, launch.block, 1, 1, shared, 0, parameters.as_ptr(), std::ptr::null()));
            self.check(self.function::<unsafe extern "C" fn() -> Status>("cuCtxSynchronize")());
        }
    }
}

/// Memory of the device.
pub struct Buffer<T> {
    address: u64,
    values: Vec<T>,
}

impl<T: Copy + Default> Buffer<T> {
    pub fn of(values: &[T]) -> Self {
        let driver = Driver::get();
        let bytes = std::mem::size_of_val(values);
        let mut address = 0;
        unsafe {
            type Allocate = unsafe extern "C" fn(*mut u64, usize) -> Status;
            driver.check(driver.function::<Allocate>("cuMemAlloc_v2")(&mut address, bytes.max(1)));
            type Write = unsafe extern "C" fn(u64, *const c_void, usize) -> Status;
            driver.check(driver.function::<Write>("cuMemcpyHtoD_v2")(address, values.as_ptr().cast(), bytes));
        }
        Self { address, values: values.to_vec() }
    }

    pub fn at(&self) -> Address {
        Address(self.address)
    }

    pub fn read(&self) -> Vec<T> {
        let driver = Driver::get();
        let mut values = self.values.clone();
        unsafe {
            type Read = unsafe extern "C" fn(*mut c_void, u64, usize) -> Status;
            let bytes = std::mem::size_of_val(&values[..]);
            driver.check(driver.function::<Read>("cuMemcpyDtoH_v2")(values.as_mut_ptr().cast(), self.address, bytes));
        }
        values
    }
}

impl Buffer<f32> {
    /// To be written: NaN until then.
    pub fn new(count: usize) -> Self {
        Self::of(&vec![f32::NAN; count])
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let driver = Driver::get();
        unsafe { driver.check(driver.function::<unsafe extern "C" fn(u64) -> Status>("cuMemFree_v2")(self.address)) };
    }
}
