/**
 * `interp.blend`: the two baselines of frame interpolation, a linear blend of the key frames beside a frame, and the nearest
 * of them.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { interpolatedLength } from "../../cascade/windows.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";

/**
 * Makes the frames between.
 *
 * @param fixture The fixture: `in/keyframes` and `call.skip`.
 */
export function answer(fixture: Fixture): Answers {
  const { skip } = fixture.call;
  if (typeof skip !== "number" || !Number.isInteger(skip) || skip < 1) {
    throw new KinoraError("unsupported", `call.skip must be a whole number of at least 1, not ${JSON.stringify(skip)}`);
  }
  const given = fixtureInput(fixture, "keyframes");
  const [count = 0, ...rest] = given.shape;
  const values = numbersOf(given);
  const size = count === 0 ? 0 : values.length / count;
  const total = count === 0 ? 0 : interpolatedLength(count, skip);
  const frames = (value: (before: number, share: number, at: number) => number): Float64Array<ArrayBuffer> =>
    Float64Array.from({ length: total * size }, (_, at) => {
      const frame = Math.floor(at / size);
      return value(Math.floor(frame / skip), frame % skip / skip, at % size);
    });
  const key = (frame: number, at: number): number => values[frame * size + at] ?? 0;
  return new Map([
    [
      "out/linear",
      plainTensor(
        [total, ...rest],
        frames((before, share, at) =>
          share === 0 ? key(before, at) : (1 - share) * key(before, at) + share * key(before + 1, at)
        ),
      ),
    ],
    // At a tie the earlier one.
    [
      "out/nearest",
      plainTensor([total, ...rest], frames((before, share, at) => key(before + (share > 0.5 ? 1 : 0), at))),
    ],
  ]);
}
