/**
 * The stages that have networks, and who reads their settings.
 *
 * @module
 */
import type { StageReader, TrainedStage } from "./stage_training.ts";
import { readDecoderImage } from "./stages/decoder_image.ts";
import { readDecoderVideo } from "./stages/decoder_video.ts";
import { readInterpolation } from "./stages/interpolation.ts";
import { readPrior } from "./stages/prior.ts";
import { readSuperResolutionImage, readSuperResolutionVideo } from "./stages/super_resolution.ts";
import { readTextPair } from "./stages/text_pair.ts";
import { readTextTuning } from "./stages/text_tuning.ts";

/** The reader of each stage. */
export const STAGE_READERS: Readonly<Record<Exclude<TrainedStage, "tokenizer">, StageReader>> = {
  "text-pair": readTextPair,
  "text-tuning": readTextTuning,
  "prior": readPrior,
  "decoder-image": readDecoderImage,
  "decoder-video": readDecoderVideo,
  "interpolation": readInterpolation,
  "sr-low-image": readSuperResolutionImage("sr-low"),
  "sr-low": readSuperResolutionVideo,
  "sr-high": readSuperResolutionImage("sr-high"),
};
