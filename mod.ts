/**
 * Kinora is Make-A-Video for Deno: from a prompt to a moving picture, with every stage of the cascade open to be run,
 * swapped and trained by itself.
 *
 * ```ts ignore
 * import { loadCascade } from "@kinora/kinora";
 *
 * using cascade = await loadCascade();
 * using video = await cascade.generate("a butterfly", { seed: 1 });
 * await video.save("a-butterfly.gif");
 * ```
 *
 * @module
 */
export * from "./ffi/dataset.ts";
export * from "./ffi/errors.ts";
export { NativeObject } from "./ffi/handle.ts";
export * from "./ffi/inspect.ts";
export type { JobOptions, JobProgress } from "./ffi/job.ts";
export * from "./ffi/layer.ts";
export { type Gpu, type LibraryInfo, libraryInfo, type PassedOver } from "./ffi/library.ts";
export * from "./ffi/media.ts";
export {
  type Device,
  type ForwardOptions,
  type GrowOptions,
  Network,
  type NetworkConfig,
  type NetworkInputs,
  type NetworkOptions,
  type NetworkReply,
  type NewNetworkOptions,
  type Precision,
  type SaveNetworkOptions,
  type WeightType,
} from "./ffi/network.ts";
export * from "./ffi/store.ts";
export {
  type AffineMatrix,
  type BetweenOptions,
  type CombineOptions,
  type CropOptions,
  type LoadedTensors,
  loadTensors,
  type NoiseOptions,
  type ResizeFilter,
  type ResizeOptions,
  saveTensors,
  type SaveTensorsOptions,
  Tensor,
  type TensorStats,
  type TensorTerm,
} from "./ffi/tensor.ts";
export * from "./ffi/tokenizer.ts";
export * from "./ffi/trainer.ts";

export * from "./lib/load_cascade.ts";
export * from "./lib/manifest.ts";
export * from "./lib/version.ts";
export * from "./lib/video.ts";
export * from "./lib/video_grid.ts";

export * from "./lib/cascade/applications.ts";
export * from "./lib/cascade/cascade.ts";
export * from "./lib/cascade/cascade_options.ts";
export * from "./lib/cascade/decoder.ts";
export * from "./lib/cascade/frame_parts.ts";
export * from "./lib/cascade/generation.ts";
export * from "./lib/cascade/given_frames.ts";
export * from "./lib/cascade/given_plan.ts";
export * from "./lib/cascade/image_tower.ts";
export * from "./lib/cascade/interpolation.ts";
export * from "./lib/cascade/json_fields.ts";
export * from "./lib/cascade/known_words.ts";
export * from "./lib/cascade/model_files.ts";
export * from "./lib/cascade/model_index.ts";
export * from "./lib/cascade/network_stage.ts";
export * from "./lib/cascade/previews.ts";
export * from "./lib/cascade/prior.ts";
export * from "./lib/cascade/run_plan.ts";
export * from "./lib/cascade/stage.ts";
export type { StageClasses } from "./lib/cascade/stage_classes.ts";
export * from "./lib/cascade/super_resolution.ts";
export * from "./lib/cascade/text.ts";
export type { TextRequest } from "./lib/cascade/text_choices.ts";
export * from "./lib/cascade/windows.ts";

export * from "./lib/data/dataset_index.ts";

export * from "./lib/diffusion/ddim.ts";
export * from "./lib/diffusion/ddpm.ts";
export * from "./lib/diffusion/dpm_solver.ts";
export * from "./lib/diffusion/dynamic_threshold.ts";
export * from "./lib/diffusion/frame_noise.ts";
export * from "./lib/diffusion/guidance.ts";
export * from "./lib/diffusion/hybrid_loss.ts";
export * from "./lib/diffusion/noise_schedule.ts";
export * from "./lib/diffusion/prediction.ts";
export * from "./lib/diffusion/sample.ts";
export * from "./lib/diffusion/sampler.ts";
export * from "./lib/diffusion/scheduler_config.ts";
export * from "./lib/diffusion/timesteps.ts";

export * from "./lib/notebook/drawing.ts";
export * from "./lib/notebook/heat_map.ts";
export * from "./lib/notebook/line_chart.ts";
export * from "./lib/notebook/live.ts";
export * from "./lib/notebook/media_bundle.ts";
export { show } from "./lib/notebook/show.ts";
export * from "./lib/notebook/side_by_side.ts";
export * from "./lib/notebook/table.ts";
export * from "./lib/notebook/training_curves.ts";
export { MOST_INLINE } from "./lib/notebook/video_bundle.ts";
export * from "./lib/notebook/watch.ts";
export * from "./lib/evaluation/picture_similarity.ts";

export * from "./lib/media/ffmpeg.ts";
export * from "./lib/media/numbered_pictures.ts";
export * from "./lib/media/open_media.ts";
export * from "./lib/media/place_back.ts";
export * from "./lib/evaluation/ablations/ablate.ts";
export * from "./lib/evaluation/ablations/ablation.ts";
export * from "./lib/evaluation/ablations/ablation_file.ts";
export * from "./lib/evaluation/bars.ts";
export * from "./lib/evaluation/embedding.ts";
export * from "./lib/evaluation/evaluate.ts";
export * from "./lib/evaluation/figure.ts";
export * from "./lib/evaluation/interpolation.ts";
export * from "./lib/evaluation/likeness.ts";
export * from "./lib/evaluation/measure.ts";
export * from "./lib/evaluation/motion.ts";
export * from "./lib/evaluation/prompt_warnings.ts";
export * from "./lib/evaluation/prompts.ts";
export * from "./lib/evaluation/retrieval.ts";
export * from "./lib/evaluation/strange_prompts.ts";
export * from "./lib/evaluation/super_resolution.ts";

export * from "./lib/parity/fixture.ts";
export * from "./lib/parity/judge.ts";
export * from "./lib/parity/kind.ts";
export * from "./lib/parity/kinds.ts";
export * from "./lib/parity/rule.ts";
export * from "./lib/parity/safetensors.ts";
export * from "./lib/parity/verify.ts";

export { openStudio, Studio, type StudioOptions } from "./lib/studio/studio.ts";

export * from "./lib/training/augmentation.ts";
export * from "./lib/training/captions.ts";
export * from "./lib/training/clip_motion.ts";
export * from "./lib/training/clip_sampling.ts";
export * from "./lib/training/diffusion_batch.ts";
export * from "./lib/training/embeddings.ts";
export * from "./lib/training/enlarged_pictures.ts";
export * from "./lib/training/fps_curriculum.ts";
export * from "./lib/training/frame_masks.ts";
export * from "./lib/training/hidden_frames.ts";
export * from "./lib/training/learning_rate.ts";
export * from "./lib/training/measures.ts";
export * from "./lib/training/model_folder.ts";
export * from "./lib/training/random.ts";
export * from "./lib/training/recipe.ts";
export * from "./lib/training/run_stage.ts";
export * from "./lib/training/sheets.ts";
export * from "./lib/training/stage_training.ts";
export * from "./lib/training/train_recipe.ts";
export * from "./lib/training/training_data.ts";
