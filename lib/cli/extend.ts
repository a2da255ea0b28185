/**
 * `kinora extend`: frames before or after those of a video.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { MOST_FRAMES, OVERLAP } from "../cascade/given_plan.ts";
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
  before: { type: "whole", value: "N", least: 0, most: MOST_FRAMES, help: "frames before the first one; default 0" },
  after: { type: "whole", value: "N", least: 0, most: MOST_FRAMES, help: "frames after the last one; default 0" },
  overlap: {
    type: "whole",
    value: "N",
    least: 1,
    most: 15,
    help: `frames that each run of the network is given of those beside it; default ${OVERLAP}`,
  },
  fps: { ...FPS_OPTION, help: "frames a second; default those of the video, or 8" },
  fit: FIT_OPTION,
  "place-back": PLACE_BACK_OPTION,
  ...SAMPLING_OPTIONS,
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "extend",
  summary: "put frames before or after a video",
  help: helpText({
    usage: "extend VIDEO --after N [OPTION]...\n       kinora extend VIDEO --before N [OPTION]...",
    about:
      "Makes a video longer: the network is given its last (or first) frames, and makes those after (or before) them.\n" +
      `What it made is given to its next run, up to ${MOST_FRAMES} frames in all.`,
    options: OPTIONS,
    notes:
      "VIDEO is a film, an animation, a folder of numbered pictures, or a still picture. --common-noise keeps long videos closer together.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("extend", OPTIONS, args, { positionals: 1, called: "video" });
    const given = onlyArgument(positionals, "The video is missing: kinora extend video.gif --after 16");
    if ((values.before ?? 0) + (values.after ?? 0) === 0) {
      throw new KinoraError("refused", "Say how many frames: --after N or --before N");
    }
    const options = { ...libraryOptions(values), signal: io.signal };
    return await applyAndWrite({ verb: "extend", given, options }, { ...values, ending: "extended" }, io);
  },
};
