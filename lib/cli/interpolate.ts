/**
 * `kinora interpolate`: frames between two pictures, or between those of a video.
 *
 * @module
 */
import { applyAndWrite, onlyArgument } from "./apply.ts";
import type { Command } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";
import {
  FIT_OPTION,
  FPS_OPTION,
  libraryOptions,
  MODEL_OPTIONS,
  PLACE_BACK_OPTION,
  SAMPLING_OPTIONS,
  VIDEO_OPTIONS,
} from "./video_options.ts";

const OPTIONS = {
  ...VIDEO_OPTIONS,
  skip: {
    type: "whole",
    value: "N",
    least: 2,
    most: 15,
    help: "of a video: how many times as many frames a second; default 5",
  },
  frames: {
    type: "whole",
    value: "N",
    least: 3,
    most: 226,
    help: "between two pictures, with them: up to 16, or 31, 46, 61, 76 and so on; default 16",
  },
  fps: { ...FPS_OPTION, help: "frames a second before the skip; default those of the video, or 8" },
  fit: FIT_OPTION,
  "place-back": PLACE_BACK_OPTION,
  ...SAMPLING_OPTIONS,
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "interpolate",
  summary: "put frames between those of a video, or between two pictures",
  help: helpText({
    usage: "interpolate VIDEO [OPTION]...\n       kinora interpolate FIRST LAST [OPTION]...",
    about:
      "Gives a video of any length more frames a second, or leads from one picture to another. Given frames come out\n" +
      "as they are, at the networks' own size.",
    options: OPTIONS,
    notes: "VIDEO is a film, an animation, or a folder of numbered pictures; FIRST and LAST are still pictures.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("interpolate", OPTIONS, args, { positionals: 2, called: "picture" });
    const first = onlyArgument(positionals, "The video is missing: kinora interpolate video.gif --skip 5");
    const last = positionals[1];
    const options = { ...libraryOptions(values), signal: io.signal };
    const given = last === undefined ? first : [first, last] as const;
    return await applyAndWrite({ verb: "interpolate", given, options }, { ...values, ending: "interpolated" }, io);
  },
};
