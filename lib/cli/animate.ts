/**
 * `kinora animate`: a picture starts to move.
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
  frames: { type: "whole", value: "N", least: 2, most: 226, help: "up to 16, or 31, 46, 61, 76 and so on; default 16" },
  fps: { ...FPS_OPTION, help: "frames a second of the 16 key frames; default 8" },
  loop: { type: "flag", help: "the last frame leads to the first: 15 frames, or 30, 45, 60, 75 and so on" },
  fit: FIT_OPTION,
  "place-back": PLACE_BACK_OPTION,
  ...SAMPLING_OPTIONS,
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "animate",
  summary: "make a picture move",
  help: helpText({
    usage: "animate IMAGE [OPTION]...",
    about:
      "Makes a video that starts with a picture: the picture is the first frame that the interpolation is given, and\n" +
      "its embedding takes the place of the prior's.",
    options: OPTIONS,
    notes: "IMAGE is a still picture. To go on from a video, see kinora extend.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("animate", OPTIONS, args, { positionals: 1, called: "picture" });
    const given = onlyArgument(positionals, "The picture is missing: kinora animate picture.png");
    const options = { ...libraryOptions(values), signal: io.signal };
    return await applyAndWrite({ verb: "animate", given, options }, { ...values, ending: "animated" }, io);
  },
};
