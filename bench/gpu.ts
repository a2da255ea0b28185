// deno-lint-ignore-file no-console
/**
 * What of the bench is only for a GPU: whether there is one, and Kinora's side for it.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { buildForGpus, CUDA_BENCH, librariesEnvironment } from "../tasks/cuda_build.ts";
import { noGpu } from "../tasks/cuda_gpu.ts";
import { installLibraryToolkit } from "../tasks/cuda_toolkit.ts";
import type { Job } from "./cases.ts";
import type { Program } from "./measure.ts";
import { peerSide } from "./measure.ts";
import type { SideOptions } from "./side.ts";

/** Says why nothing can be measured on a GPU here, if it cannot. */
export function skipped(): boolean {
  const why = noGpu();
  if (why !== undefined) console.error(`bench: skipped, ${why}`);
  return why !== undefined;
}

/**
 * Builds Kinora's side, and the library that makes videos.
 *
 * @throws {KinoraError} `failed` when that fails.
 */
export async function builtForGpus(): Promise<Program> {
  const toolkit = await installLibraryToolkit();
  if (await buildForGpus([], toolkit) !== 0) {
    throw new KinoraError("failed", "Kinora's side of the comparison was not built for GPUs");
  }
  return { path: CUDA_BENCH, env: librariesEnvironment(toolkit) };
}

/** The layers whose products and convolutions may be NVIDIA's libraries' or Kinora's kernels'. */
const EITHER: readonly string[] = ["unet", "conv3x3", "conv1x1", "linear"];

/** A job once more for {@linkcode ownKernels}, where that computes it otherwise. */
export function onOwnKernels(job: Job): Job | undefined {
  return EITHER.includes(job.of.layer) ? { ...job, of: { ...job.of, name: `${job.of.name}, own kernels` } } : undefined;
}

/** Kinora's side with its own kernels in place of cuBLASLt and cuDNN. */
export function ownKernels({ path, env }: Program): Program {
  return { path, env: { ...env, KINORA_CUDA_PRODUCTS: "own" } };
}

/**
 * Looks whether PyTorch sees a GPU.
 *
 * @throws {KinoraError} `refused` when it does not.
 */
export async function checkPeer(options: SideOptions): Promise<void> {
  await using python = peerSide(options);
  const { gpu } = await python.ask<{ readonly gpu: string | null }>({ do: "hello" });
  if (gpu === null) {
    throw new KinoraError(
      "refused",
      "PyTorch finds no GPU: its package must be one for CUDA, and the driver new enough",
    );
  }
}
