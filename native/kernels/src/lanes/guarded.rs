//! Numbers that end where memory ends, so that a read or write beyond them is a fault.

/// f32 values behind which nothing may be touched.
pub(crate) struct Guarded {
    at: *mut f32,
    len: usize,
    #[cfg(unix)]
    pages: (*mut libc::c_void, usize),
    #[cfg(not(unix))]
    _values: Vec<f32>,
}

impl Guarded {
    #[cfg(unix)]
    pub fn new(values: &[f32]) -> Self {
        const PAGE: usize = 64 << 10;
        let bytes = (4 * values.len()).next_multiple_of(PAGE);
        // SAFETY: a new mapping; its last page is made one that cannot be touched.
        unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let start = libc::mmap(std::ptr::null_mut(), bytes + PAGE, access, kind, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(start.byte_add(bytes), PAGE, libc::PROT_NONE), 0);
            let at = start.byte_add(bytes - 4 * values.len()).cast::<f32>();
            at.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self { at, len: values.len(), pages: (start, bytes + PAGE) }
        }
    }

    #[cfg(not(unix))]
    pub fn new(values: &[f32]) -> Self {
        let mut values = values.to_vec();
        Self { at: values.as_mut_ptr(), len: values.len(), _values: values }
    }

    pub fn at(&self) -> *mut f32 {
        self.at
    }

    pub fn values(&self) -> &[f32] {
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

#[cfg(unix)]
impl Drop for Guarded {
    fn drop(&mut self) {
        unsafe { libc::munmap(self.pages.0, self.pages.1) };
    }
}
