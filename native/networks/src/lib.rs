//! The stage networks of Make-A-Video: U-Net, prior and CLIP pair.

pub mod clip_image;
pub mod clip_text;
pub mod clip_tokenizer;
pub mod convolution;
#[cfg(test)]
mod disturbed;
pub mod embedding;
mod html_references;
pub mod linear;
pub mod lucidrains;
mod mojibake;
pub mod network;
pub mod norms;
pub mod parameters;
pub mod position_bias;
pub mod prior;
mod refusals;
pub mod tensor_file;
mod text_repair;
pub mod tokenizer;
pub mod transformer;
pub mod unet;
pub mod unet_attention;
pub mod unet_config;
pub mod vocabulary;
pub mod weights_file;
