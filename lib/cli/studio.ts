/**
 * `kinora studio`: the page to make videos with.
 *
 * @module
 */
import { openStudio } from "../studio/studio.ts";
import type { Command } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";

const OPTIONS = {
  folder: { type: "text", value: "DIR", help: "where videos go and past runs are looked for; default out" },
  port: { type: "whole", value: "N", least: 0, most: 65535, help: "the port; default any free one" },
  model: { type: "text", value: "DIR", help: "folder of another model" },
  json: { type: "flag", help: "print the address as one JSON object" },
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "studio",
  summary: "open a page to make videos with",
  help: helpText({
    usage: "studio [OPTION]...",
    about:
      "Opens a page on this machine to make videos with, watching every stage, and prints its address. The address holds a\n" +
      "random word, and only who knows it is answered. Ctrl-C closes the studio, with exit code 0.",
    options: OPTIONS,
  }),
  async run(args, io): Promise<number> {
    const { values } = parseOptions("studio", OPTIONS, args);
    const { folder, port, model } = values;
    await using studio = await openStudio({
      ...folder === undefined ? {} : { folder },
      ...port === undefined ? {} : { port },
      ...model === undefined ? {} : { model },
    });
    io.out(values.json ? JSON.stringify({ url: studio.url }) : `The studio is open: ${studio.url}`);
    if (!values.json) io.note("kinora: Ctrl-C closes it");
    const { promise, resolve } = Promise.withResolvers<void>();
    io.signal.addEventListener("abort", () => resolve(), { once: true });
    if (!io.signal.aborted) await promise;
    return 0;
  },
};
