/**
 * `kinora vary`: another video of what a video shows.
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
  frames: {
    type: "whole",
    value: "N",
    least: 1,
    most: 226,
    help: "1 is a picture; up to 16, or 31, 46, 61, 76 and so on; default 16",
  },
  fps: { ...FPS_OPTION, help: "frames a second of the 16 key frames; default 8" },
  loop: { type: "flag", help: "the last frame leads to the first: with interpolation 32, 48, 64 or 80 frames" },
  fit: FIT_OPTION,
  "place-back": PLACE_BACK_OPTION,
  ...SAMPLING_OPTIONS,
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "vary",
  summary: "make another video of what a video shows",
  help: helpText({
    usage: "vary VIDEO [OPTION]...",
    about:
      "Makes a new video of what a video or a picture shows: the mean embedding of its frames takes the place of the\n" +
      "prior's.",
    options: OPTIONS,
    notes:
      "VIDEO is a film, an animation, a folder of numbered pictures, or a still picture. Each --seed is another variation.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("vary", OPTIONS, args, { positionals: 1, called: "video" });
    const given = onlyArgument(positionals, "The video is missing: kinora vary video.gif");
    const options = { ...libraryOptions(values), signal: io.signal };
    return await applyAndWrite({ verb: "vary", given, options }, { ...values, ending: "varied" }, io);
  },
};
