/**
 * What the super-resolutions gain over a bicubic filter, on pictures kept from their training.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import { stageSettings } from "../cascade/model_index.ts";
import { loadNetwork } from "../cascade/network_stage.ts";
import { SuperResolution, type SuperResolutionName } from "../cascade/super_resolution.ts";
import { EnlargedPictures } from "../training/enlarged_pictures.ts";
import { heldOut, spread, type TrainingData } from "../training/training_data.ts";
import { type Figure, mean, type Protocol } from "./figure.ts";
import { type Bench, figure, type MeasureOptions, seedsFrom, seedsText } from "./measure.ts";

/** Frames of a clip at rest: enough that each has neighbours, of which a network over frames sees none in a single picture. */
const RESTING = 5;

/** Pictures that are enlarged at once. */
const BATCH = 4;

/**
 * Measures each super-resolution that the model has, at its own factor: pictures of the data set are made small by box
 * averages and large again; of networks over frames also as clips at rest. A picture that is not a multiple of what network and factor need is cut to its middle.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureSuperResolution(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const names = (["sr-low", "sr-high"] as const).filter((name) => bench.cascade.index.stages[name] !== undefined);
  const figures: Figure[] = [];
  for (const [index, name] of names.entries()) {
    const onProgress = (step: number, total: number): void =>
      options.onProgress?.(index * total + step, names.length * total);
    figures.push(...await measureOne(bench, name, { ...options, onProgress }));
  }
  return figures;
}

async function measureOne(bench: Bench, name: SuperResolutionName, options: MeasureOptions): Promise<Figure[]> {
  const { cascade, data } = bench;
  const { seed, signal, onProgress } = options;
  const settings = stageSettings(cascade.index, name);
  const smaller = name === "sr-low" ? stageSettings(cascade.index, "decoder") : stageSettings(cascade.index, "sr-low");
  const factor = settings.size / smaller.size;
  const network = await loadNetwork(cascade.index.folder, settings, { precision: cascade.precision });
  const side = cutSide(data.side("stills256"), factor, network.config);
  // It frees the network.
  using stage = new SuperResolution(name, network, { ...settings, size: side }, cascade.precision);
  const concepts = spread(keptConcepts(data), options.concepts);
  const temporal = network.config["temporal"] === true;
  const [made, bicubic, resting]: [number[], number[], number[]] = [[], [], []];
  for (let first = 0; first < concepts.length; first += BATCH) {
    const some = concepts.slice(first, first + BATCH);
    using truth = await middle(data, some, side);
    const seeds = seedsFrom(seed + first, some.length);
    using enlarged = await EnlargedPictures.make(stage, truth, { factor, seeds, signal });
    const decibels = await enlarged.psnrOfEach();
    made.push(...decibels.map(({ made }) => made));
    bicubic.push(...decibels.map(({ bicubic }) => bicubic));
    if (temporal) {
      using clips = await truth.gather(1, new Array<number>(RESTING).fill(0));
      using frames = await EnlargedPictures.make(stage, clips, { factor, seeds, signal });
      resting.push(...(await frames.psnrOfEach()).map(({ made }) => made));
    }
    onProgress?.(first + some.length, concepts.length);
  }
  const protocol: Protocol = {
    what: "pictures made small by box averages and large again; mean over pictures of the peak signal-to-noise ratio",
    count: concepts.length,
    seeds: seedsText(seed, concepts.length),
    stages: await bench.stages(name),
    settings: { side, factor, augmentation: settings.augmentation, pictures: "every 16th concept, kept from training" },
  };
  const [own, plain] = [mean(made), mean(bicubic)];
  const atRest = { ...protocol, what: `the same, of each picture as a clip of ${RESTING} equal frames` };
  const whole = { ...protocol, what: "the same, of the mean square of all pictures together" };
  return [
    figure(`super-resolution.${name}.psnr`, own, "dB", protocol),
    figure(`super-resolution.${name}.psnr_bicubic`, plain, "dB", protocol),
    figure(`super-resolution.${name}.gain`, difference(own, plain), "dB", protocol),
    figure(`super-resolution.${name}.gain_together`, difference(together(made), together(bicubic)), "dB", whole),
    ...temporal
      ? [figure(`super-resolution.${name}.gain_resting`, difference(mean(resting), plain), "dB", atRest)]
      : [],
  ];
}

/** The ratio of all pictures together from that of each. */
function together(decibels: readonly number[]): number | null {
  const square = mean(decibels.map((value) => 10 ** (-value / 10)));
  return square === null ? null : -10 * Math.log10(square);
}

function difference(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b;
}

/** Concepts kept from the training of super-resolution; a small data set has none to spare. */
function keptConcepts(data: TrainingData): number[] {
  const all = [...data.concepts.keys()];
  const kept = all.filter(heldOut);
  return kept.length === 0 ? all : kept;
}

/**
 * The largest side, at most that of the pictures, which both the factor and the network's patches divide.
 *
 * @param most Side of the pictures.
 * @param factor How many times larger the network makes them.
 * @param config The network's configuration.
 */
export function cutSide(most: number, factor: number, config: Readonly<Record<string, unknown>>): number {
  const levels = config["block_out_channels"];
  const unit = Number(config["patch_size"] ?? 1) * 2 ** ((Array.isArray(levels) ? levels.length : 1) - 1);
  for (let side = most - most % unit; side > 0; side -= unit) if (side % factor === 0) return side;
  return most;
}

/** The middle of stills, as (B, 1, S, S, 3). */
async function middle(data: TrainingData, concepts: readonly number[], side: number): Promise<Tensor> {
  const place = new Array<number>(concepts.length).fill((data.side("stills256") - side) >> 1);
  const rows = concepts.map((concept) => [data.concepts[concept]?.still ?? 0]);
  return await data.sequences("stills256", rows, { size: side, top: place, left: place });
}
