/**
 * How what the whole chain makes moves, against the real clips of the same concepts.
 *
 * @module
 */
import { stageSettings } from "../cascade/model_index.ts";
import { clipMotions, type Motion } from "../training/clip_motion.ts";
import { clipRows } from "../training/clip_sampling.ts";
import { type Figure, mean, median, type Protocol } from "./figure.ts";
import { type Bench, COMPARED_SIDE, figure, type MeasureOptions } from "./measure.ts";
import { promptSet } from "./prompts.ts";

/**
 * Measures motion without grain, its smoothness and the flicker of the border, of the videos from names: of concepts that
 * have clips, and of those that never move in the data.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureMotion(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { data } = bench;
  const { seed, signal, onProgress } = options;
  const { fps, frames, fps_range } = stageSettings(bench.cascade.index, "decoder");
  const prompts = promptSet(data, "names", options.concepts).map(({ text, concepts }) => {
    const clip = data.concepts[concepts[0] ?? 0]?.clip ?? null;
    return { text, clip: clip === null ? undefined : data.clips[clip] };
  });
  const moving = prompts.flatMap(({ text, clip }) => clip === undefined ? [] : [{ text, clip }]);
  const still = prompts.filter(({ clip }) => clip === undefined);
  const total = prompts.length + moving.length;
  let done = 0;
  const generated = async (texts: readonly { readonly text: string }[], fps: number): Promise<Motion[]> => {
    const motions: Motion[] = [];
    for (const { text } of texts) {
      motions.push(...await clipMotions(await bench.chain(text, { seed, fps, signal })));
      onProgress?.(++done, total);
    }
    return motions;
  };
  const [made, resting] = [await generated(moving, fps), await generated(still, fps)];
  const quick = await generated(moving, fps_range.most);
  const real: Motion[] = [];
  for (const { clip } of moving) {
    using truth = await data.sequences("clips64", [clipRows(clip, { frames, fps, first: 0 })]);
    real.push(...await clipMotions(truth));
  }
  const stages = await bench.stages("text", "prior", ...bench.chainStages);
  const protocol = (what: string, count: number, rate = fps): Protocol => ({
    what,
    count,
    seeds: `${seed} for every prompt`,
    stages,
    settings: { side: COMPARED_SIDE, filter: "area", frames, fps: rate, prompts: "names" },
  });
  const difference = "mean absolute difference of neighbouring frames at 8 x 8 pixels";
  const border = "mean absolute difference of neighbouring frames in the outermost two pixels, mean over clips";
  const second = "mean absolute second difference over the first, at 8 x 8 pixels";
  const flickerOf = (motions: readonly Motion[]): number | null => mean(motions.map(({ border }) => border));
  const [flicker, flickerReal] = [flickerOf(made), flickerOf(real)];
  return [
    figure(
      "motion.moving.ratio",
      median(ratios(made, real)),
      "ratio",
      protocol(`${difference}, over that of the real clip; median over clips`, made.length),
    ),
    figure("motion.moving", median(made.map(({ motion }) => motion)), "colour", protocol(difference, made.length)),
    figure("motion.real", median(real.map(({ motion }) => motion)), "colour", {
      ...protocol(`${difference}, of the real clips`, real.length),
      seeds: "none",
      stages: [],
    }),
    figure(
      "motion.still",
      median(resting.map(({ motion }) => motion)),
      "colour",
      protocol(`${difference}, of concepts that have no clip`, resting.length),
    ),
    figure(
      "motion.moving.acceleration",
      median(made.map(({ acceleration }, index) => acceleration - (real[index]?.acceleration ?? 0))),
      "ratio",
      protocol(`${second}, less that of the real clip; median over clips`, made.length),
    ),
    figure(
      "motion.border_ratio",
      flicker === null || !flickerReal ? null : flicker / flickerReal,
      "ratio",
      protocol(`${border}, over that of the real clips`, made.length),
    ),
    figure("motion.moving.border", flicker, "colour", protocol(border, made.length)),
    figure("motion.still.border", flickerOf(resting), "colour", protocol(border, resting.length)),
    figure(
      "motion.moving.quick_ratio",
      median(ratios(quick, made)),
      "ratio",
      protocol(`${difference}, over that at ${fps} frames a second; median over clips`, quick.length, fps_range.most),
    ),
  ];
}

/** The motion of each clip over that of another; clips over one at rest are left out. */
function ratios(clips: readonly Motion[], others: readonly Motion[]): number[] {
  return clips.flatMap(({ motion }, index) => {
    const other = others[index]?.motion ?? 0;
    return other === 0 ? [] : [motion / other];
  });
}
