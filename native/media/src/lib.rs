//! Pictures and films in and out: PNG, APNG, GIF, WebP, MP4 and Y4M; JPEG in.
//!
//! [`stream`] gives a file's frames one after the other (RGBA, composited to the full canvas, upright, with their exact
//! durations), [`decode`] all of them as [`Frames`]; [`encode`] writes frames to any writer, and [`save`] to a path, under a temporary
//! name until the file is whole. [`pack`] decodes a picture collection once into memory-mappable stores.
//!
//! Every reader checks the sizes a file claims against [`limits`] before it allocates.

#![forbid(unsafe_code)]

mod atomic;
mod canvas;
mod decode;
mod encode;
mod error;
mod fit;
mod foreign;
mod frames;
mod gif_decode;
mod gif_encode;
mod h264;
pub mod inspect;
mod jpeg_decode;
mod jpeg_pixels;
mod jpeg_scan;
pub mod limits;
mod mp4_decode;
mod mp4_demux;
mod mp4_encode;
mod mp4_fragments;
mod orientation;
pub mod pack;
mod palette;
mod png_decode;
mod png_encode;
mod progress;
pub mod resize;
pub mod store;
mod stream;
mod timing;
mod webp_decode;
mod webp_encode;
mod y4m;
mod yuv;

pub use atomic::AtomicFile;
pub use canvas::Rect;
pub use decode::{Container, decode, read};
pub use encode::{Format, encode, save};
pub use error::Error;
pub use fit::{Fit, Placement};
pub use frames::{Frames, over_white};
pub use orientation::Orientation;
pub use palette::Palette;
pub use progress::Progress;
pub use stream::{OnPicture, Picture, Seconds, planes, stream};
pub use timing::{Pace, Timing};
pub use yuv::{Colours, Matrix, OnPlanes, Planes};

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;
