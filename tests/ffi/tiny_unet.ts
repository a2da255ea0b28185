/** The smallest U-Net that tests of networks are made with. */
export const TINY_UNET = {
  _class_name: "UNetPseudo3DModel",
  in_channels: 3,
  patch_size: 1,
  block_out_channels: [8],
  attention: [false],
  norm_num_groups: 2,
  time_embedding_dim: 8,
};
