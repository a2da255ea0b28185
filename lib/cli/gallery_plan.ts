/**
 * What a gallery shows: prompts in the paper's five classes, chosen before anything was generated and not changed after, and
 * each application once.
 *
 * @module
 */
import type { Application } from "../cascade/applications.ts";
import type { GenerateOptions } from "../cascade/cascade_options.ts";

/** What an application starts from: the video of a prompt, which is made first. */
export interface GalleryGiven {
  /** The prompt. */
  readonly prompt: string;
  /** Its frames; 1 for a picture. */
  readonly frames: 1 | 16;
}

/** One video of a gallery. */
export interface GalleryItem {
  /** Its name, and that of its files. */
  readonly id: string;
  /** Its class. */
  readonly group: string;
  /** What stands below it. */
  readonly title: string;
  /** What it is made from, in this order. */
  readonly given: readonly GalleryGiven[];
  /** The prompt, where it is made from one, with what else is asked for. */
  readonly generate?: { readonly prompt: string; readonly options: GenerateOptions };
  /** The method and its options, where it is made from given frames. */
  readonly apply?: { readonly verb: Application["verb"]; readonly options: object };
}

/** Twelve prompts of each class; the last ones of each ask for more than single things. */
const PROMPTS: Readonly<Record<string, readonly string[]>> = {
  animals: [
    "a butterfly",
    "a red fox",
    "a tropical fish",
    "an owl",
    "a turtle",
    "a penguin",
    "a snail",
    "a horse",
    "a cat face with hearts for eyes",
    "a spider in its web",
    "a dog wearing sunglasses",
    "two birds on a branch",
  ],
  fantasy: [
    "a unicorn",
    "a dragon",
    "a ghost",
    "an alien",
    "a robot",
    "a mermaid",
    "a genie",
    "a crystal ball",
    "a flying saucer",
    "a skull and crossbones",
    "a robot dancing in the rain",
    "a dragon reading a book",
  ],
  people: [
    "a smiling face",
    "a crying face",
    "a waving hand",
    "thumbs up",
    "clapping hands",
    "a dancer",
    "an astronaut",
    "a surfer",
    "a chef",
    "a person running",
    "a family at the table",
    "a man playing the violin on a bridge",
  ],
  "nature and scenes": [
    "a sunflower",
    "a palm tree",
    "a full moon",
    "the sun behind a cloud",
    "a rainbow",
    "a snowflake",
    "a volcano",
    "fire",
    "a wave",
    "a shooting star",
    "a sunrise over mountains",
    "a castle by a lake at night",
  ],
  "food and things": [
    "a slice of pizza",
    "a strawberry",
    "a cup of coffee",
    "a birthday cake",
    "an ice cream cone",
    "a rocket",
    "a bicycle",
    "an alarm clock",
    "a light bulb",
    "a guitar",
    "a red balloon and a blue balloon",
    "a pineapple on a skateboard",
  ],
};

const APPLICATIONS: readonly Omit<GalleryItem, "id" | "group">[] = [
  {
    title: "animate: a picture of a rocket",
    given: [{ prompt: "a rocket", frames: 1 }],
    apply: { verb: "animate", options: {} },
  },
  {
    title: "interpolate: from a full moon to the sun",
    given: [{ prompt: "a full moon", frames: 1 }, { prompt: "the sun", frames: 1 }],
    apply: { verb: "interpolate", options: {} },
  },
  {
    title: "interpolate: a video of a butterfly, --skip 5",
    given: [{ prompt: "a butterfly", frames: 16 }],
    apply: { verb: "interpolate", options: { skip: 5 } },
  },
  {
    title: "extend: a video of a waving hand, --after 16",
    given: [{ prompt: "a waving hand", frames: 16 }],
    apply: { verb: "extend", options: { after: 16 } },
  },
  {
    title: "extend: a video of a tropical fish, --before 16",
    given: [{ prompt: "a tropical fish", frames: 16 }],
    apply: { verb: "extend", options: { before: 16 } },
  },
  {
    title: "vary: a video of a red fox",
    given: [{ prompt: "a red fox", frames: 16 }],
    apply: { verb: "vary", options: {} },
  },
  {
    title: "generate: a cat, --to a lion --mix 0.5",
    given: [],
    generate: { prompt: "a cat", options: { to: "a lion", mix: 0.5 } },
  },
  {
    title: "generate: a rose, --to a sunflower --travel",
    given: [],
    generate: { prompt: "a rose", options: { to: "a sunflower", travel: true } },
  },
  {
    title: "generate: a heart, --negative a red heart",
    given: [],
    generate: { prompt: "a heart", options: { negative: "a red heart" } },
  },
  {
    title: "generate: an orange, --image a picture of a red apple --strength 0.6",
    given: [{ prompt: "a red apple", frames: 1 }],
    generate: { prompt: "an orange", options: { strength: 0.6 } },
  },
  {
    title: "generate: fire, --loop",
    given: [],
    generate: { prompt: "fire", options: { loop: true } },
  },
  {
    title: "generate: a robot, --samples 4",
    given: [],
    generate: { prompt: "a robot", options: { samples: 4 } },
  },
];

/** All items: the prompts, then the applications. */
export function galleryItems(): GalleryItem[] {
  const numbered = (letter: string, index: number): string => `${letter}${String(index + 1).padStart(2, "0")}`;
  const prompts = Object.entries(PROMPTS).flatMap(([group, prompts]) =>
    prompts.map((prompt) => ({ group, title: prompt, given: [], generate: { prompt, options: {} } }))
  );
  return [
    ...prompts.map((item, index) => ({ id: numbered("p", index), ...item })),
    ...APPLICATIONS.map((item, index) => ({ id: numbered("a", index), group: "applications", ...item })),
  ];
}
