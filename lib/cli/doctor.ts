/**
 * `kinora doctor`: what this machine can do, and which models there are.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { checkNetworkFiles, fileSha256 } from "../cascade/model_files.ts";
import { type ModelIndex, readModelIndex } from "../cascade/model_index.ts";
import { NETWORK_CLASSES } from "../cascade/network_classes.ts";
import { VERSION } from "../version.ts";
import type { Command } from "./command.ts";
import { installJupyterKernel, jupyterKernelInstalled } from "./jupyter_kernel.ts";
import { type DeviceReport, deviceReport } from "./graphics_card.ts";
import { helpText, type Options, parseOptions } from "./options.ts";

const OPTIONS = {
  model: { type: "text", value: "DIR", help: "folder of another model to look at" },
  fix: { type: "flag", help: "install Deno's kernel for Jupyter where it is missing" },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** A network's files, or what is wrong with them. */
interface StageReport {
  readonly stage: string;
  readonly folder: string;
  readonly parameters?: number;
  readonly bytes?: number;
  readonly sha256?: string;
  readonly problem?: string;
}

/** A model, or what is wrong with it. */
interface ModelReport {
  readonly folder: string;
  readonly name?: string;
  readonly stages: readonly StageReport[];
  readonly problem?: string;
}

/** The native library, or what is wrong with it. */
type LibraryReport = Awaited<ReturnType<typeof libraryInfo>> | { readonly problem: string };

/** The verb. */
export const command: Command = {
  name: "doctor",
  summary: "say what this machine can do",
  help: helpText({
    usage: "doctor [OPTION]...",
    about:
      "Says what this machine can do: Deno, its kernel for Jupyter, memory, what is computed on and why, the native library\n" +
      "and its arithmetic, and the models found with their sizes and SHA-256. Exit code 1 when something is wrong.",
    options: OPTIONS,
  }),
  async run(args, io): Promise<number> {
    const { values } = parseOptions("doctor", OPTIONS, args);
    const folder = values.model ?? fileURLToPath(new URL("../../models/default", import.meta.url));
    const library = await attempt<LibraryReport>(libraryInfo, (problem) => ({ problem }));
    const model = await modelReport(folder.replace(/(?<=.)\/+$/, ""));
    const problems = [
      "problem" in library ? library.problem : undefined,
      model.problem,
      ...model.stages.map(({ problem }) => problem),
    ].filter((problem) => problem !== undefined);
    if (values.fix && await jupyterKernelInstalled() === false) await installJupyterKernel();
    const report = {
      ok: problems.length === 0,
      kinora: VERSION,
      deno: Deno.version.deno,
      os: Deno.build.os,
      arch: Deno.build.arch,
      cores: navigator.hardwareConcurrency,
      memory: await memory(),
      jupyter: await jupyterKernelInstalled() ?? null,
      device: await deviceReport("problem" in library ? undefined : library),
      library,
      model,
    };
    if (values.json) io.out(JSON.stringify(report));
    else for (const line of lines(report)) io.out(line);
    return report.ok ? 0 : 1;
  },
};

async function modelReport(folder: string): Promise<ModelReport> {
  const index = await attempt<ModelIndex | string>(() => readModelIndex(folder), (problem) => problem);
  if (typeof index === "string") return { folder, stages: [], problem: index };
  const stages: StageReport[] = [];
  for (const [stage, settings] of Object.entries(index.stages)) {
    const path = `${folder}/${settings.folder}`;
    stages.push(
      await attempt<StageReport>(async () => {
        const { parameters, bytes, weights } = await checkNetworkFiles(path, [
          NETWORK_CLASSES[stage as keyof typeof NETWORK_CLASSES],
        ]);
        return { stage, folder: settings.folder, parameters, bytes, sha256: await fileSha256(weights) };
      }, (problem) => ({ stage, folder: settings.folder, problem })),
    );
  }
  return { folder, name: index.name, stages };
}

/** Bytes of main memory, where the system tells. */
async function memory(): Promise<number | null> {
  return await Deno.permissions.query({ name: "sys", kind: "systemMemoryInfo" }).then(({ state }) =>
    state === "granted" ? Deno.systemMemoryInfo().total : null
  );
}

async function attempt<T>(work: () => Promise<T>, otherwise: (problem: string) => T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KinoraError) return otherwise(error.message);
    throw error;
  }
}

function lines(report: {
  readonly kinora: string;
  readonly deno: string;
  readonly os: string;
  readonly arch: string;
  readonly cores: number;
  readonly memory: number | null;
  readonly jupyter: boolean | null;
  readonly device: DeviceReport;
  readonly library: LibraryReport;
  readonly model: ModelReport;
}): string[] {
  const { library, model } = report;
  const memory = report.memory === null ? "" : `, ${(report.memory / 2 ** 30).toFixed(1)} GiB of memory`;
  return [
    `kinora   ${report.kinora}`,
    `Deno     ${report.deno}`,
    `machine  ${report.os} ${report.arch}, ${report.cores} cores${memory}`,
    `Jupyter  ${
      report.jupyter === null
        ? "cannot be asked for its kernels"
        : report.jupyter
        ? "has Deno's kernel"
        : "does not have Deno's kernel: kinora doctor --fix installs it"
    }`,
    `device   ${report.device.chosen} (${report.device.reason})`,
    ..."problem" in library ? [`library  ${library.problem}`] : [
      `library  ${library.path} (version ${library.version}, ABI ${library.abi})`,
      `         ${library.isa}, ${library.threads} threads, bf16 ${library.fastBf16 ? "fast" : "slow: f32 is used"}`,
    ],
    `model    ${model.folder}${model.problem === undefined ? ` (${model.name})` : `: ${model.problem}`}`,
    ...model.stages.map((stage) =>
      stage.problem === undefined
        ? `         ${stage.stage.padEnd(13)} ${million(stage.parameters)} weights, ${
          mega(stage.bytes)
        }, sha256 ${stage.sha256}`
        : `         ${stage.stage.padEnd(13)} ${stage.problem}`
    ),
  ];
}

function million(count = 0): string {
  return `${(count / 1e6).toFixed(2)} million`;
}

function mega(bytes = 0): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
