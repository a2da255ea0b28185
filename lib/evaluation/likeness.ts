/**
 * How near the decoder comes to a picture from that picture's own embedding.
 *
 * @module
 */
import { rmsDifference } from "../training/measures.ts";
import { spread } from "../training/training_data.ts";
import { type Figure, mean, type Protocol } from "./figure.ts";
import { type Bench, figure, type MeasureOptions, seedsFrom, seedsText } from "./measure.ts";

/** Pictures that are drawn at once. */
const BATCH = 8;

/**
 * Measures the distance of the decoder's single frames to the stills whose embeddings it is given.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureLikeness(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { cascade, data } = bench;
  const { seed, signal, onProgress } = options;
  const decoder = await cascade.stage("decoder");
  const { bank } = await bench.images();
  const concepts = spread([...data.concepts.keys()], options.concepts);
  const distances: number[] = [];
  for (let first = 0; first < concepts.length; first += BATCH) {
    const some = concepts.slice(first, first + BATCH);
    using embeddings = await bank.gather(0, some);
    using drawn = await decoder.sample(embeddings, { seeds: seedsFrom(seed + first, some.length), frames: 1, signal });
    using truth = await data.sequences("stills64", some.map((concept) => [data.concepts[concept]?.still ?? 0]));
    for (const index of some.keys()) {
      using one = await drawn.gather(0, [index]);
      using other = await truth.gather(0, [index]);
      distances.push(await rmsDifference(one, other) / 2);
    }
    onProgress?.(first + some.length, concepts.length);
  }
  const protocol: Protocol = {
    what:
      "single frames of the decoder from the stills' own embeddings, root mean square difference to the still, of " +
      "colours in [0, 1]",
    count: concepts.length,
    seeds: seedsText(seed, concepts.length),
    stages: await bench.stages("image", "decoder"),
    settings: { side: decoder.settings.size },
  };
  const together = mean(distances.map((distance) => distance ** 2));
  return [
    figure("likeness.rmse", mean(distances), "colour", { ...protocol, what: `${protocol.what}; mean over pictures` }),
    figure("likeness.rmse_together", together === null ? null : Math.sqrt(together), "colour", {
      ...protocol,
      what: `${protocol.what}; of all pictures together`,
    }),
  ];
}
