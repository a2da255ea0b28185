/**
 * What the interpolation gains over a linear blend, on clips kept from training.
 *
 * @module
 */
import { HIDDEN_SKIP, HiddenFrames } from "../training/hidden_frames.ts";
import { spread } from "../training/training_data.ts";
import { type Figure, mean, type Protocol } from "./figure.ts";
import { type Bench, figure, type MeasureOptions, seedsFrom, seedsText } from "./measure.ts";

/**
 * Measures hidden frames: of 16 neighbouring frames at half the greatest trained rate, which is quick enough that the frames
 * between differ from a blend, every fifth is given.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureInterpolation(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { cascade, data } = bench;
  const { seed, signal, onProgress } = options;
  const clips = spread(data.unseenClips, options.concepts);
  if (clips.length === 0 || cascade.index.stages.interpolation === undefined) return [];
  const stage = await cascade.stage("interpolation");
  const { bank } = await bench.images();
  const fps = stage.settings.fps_range.most / 2;
  const [made, blend]: [number[], number[]] = [[], []];
  for (const [index, clip] of clips.entries()) {
    using hidden = await HiddenFrames.make(stage, data, {
      clips: [clip],
      bank,
      seeds: seedsFrom(seed + index, 1),
      fps,
      signal,
    });
    const decibels = await hidden.psnr();
    made.push(decibels.made);
    blend.push(decibels.blend);
    onProgress?.(index + 1, clips.length);
  }
  const protocol: Protocol = {
    what: "hidden frames of real clips; mean over clips of the peak signal-to-noise ratio",
    count: clips.length,
    seeds: seedsText(seed, clips.length),
    stages: await bench.stages("image", "interpolation"),
    settings: { fps, given: `every ${HIDDEN_SKIP}th of 16 frames`, clips: "every 16th, kept from training" },
  };
  const [own, plain] = [mean(made), mean(blend)];
  return [
    figure("interpolation.psnr", own, "dB", protocol),
    figure("interpolation.psnr_blend", plain, "dB", protocol),
    figure("interpolation.gain", own === null || plain === null ? null : own - plain, "dB", protocol),
  ];
}
