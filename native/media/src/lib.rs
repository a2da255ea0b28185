//! Pictures and animations in and out: GIF, APNG, PNG and WebP.
//!
//! [`decode`] turns a file's bytes into [`Frames`] (RGBA, every frame composited to the full canvas);
//! [`encode`] writes frames as GIF, APNG or PNG to any writer, and [`save`] to a path, under a temporary
//! name until the file is whole. [`pack`] decodes a picture collection once into memory-mappable stores.
//!
//! Every reader checks the sizes a file claims against [`limits`] before it allocates.

#![forbid(unsafe_code)]

mod atomic;
mod canvas;
mod decode;
mod encode;
mod error;
mod frames;
mod gif_decode;
mod gif_encode;
pub mod inspect;
pub mod limits;
pub mod pack;
mod palette;
mod png_decode;
mod png_encode;
mod progress;
pub mod resize;
pub mod store;
mod webp_decode;

pub use atomic::AtomicFile;
pub use decode::{Container, decode, read};
pub use encode::{Format, Timing, encode, save};
pub use error::Error;
pub use frames::Frames;
pub use palette::Palette;
pub use progress::Progress;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;
