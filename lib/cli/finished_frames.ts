/**
 * The frames of a run that are finished, so that they are not lost when a later stage is stopped or fails.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import type { StageName } from "../cascade/stage.ts";
import { Video } from "../video.ts";
import { unusedPath } from "./output_path.ts";

/** Keeps the last finished video, and the finished frames of the stage after it. */
export class FinishedFrames implements Disposable {
  #stage: StageName | undefined;
  #video: Video | undefined;
  #nextStage: StageName | undefined;
  #parts: Video[] = [];

  /** The video of the last stage that finished. */
  get last(): Video | undefined {
    return this.#video;
  }

  /** Takes the result of a stage; the one before is freed. */
  finish(stage: StageName, video: Video): void {
    this.dispose();
    [this.#stage, this.#video] = [stage, video];
  }

  /** Takes a hold on finished frames of a stage that is still at work; they come in order. */
  async add(stage: StageName, frames: Video): Promise<void> {
    this.#nextStage = stage;
    this.#parts.push(new Video(await frames.tensor.reshape(frames.tensor.shape), { fps: frames.fps }));
  }

  /**
   * Writes what is kept as PNG files: a folder a stage.
   *
   * @param name The folder; a number is added where it exists.
   * @returns A line for each folder; an empty list when nothing is finished.
   */
  async save(name: string): Promise<string[]> {
    if (this.#video === undefined || this.#stage === undefined) return [];
    const folder = await unusedPath(name);
    const saved: string[] = [];
    try {
      await this.#saveInto(folder, this.#stage, this.#video, saved);
    } catch (error) {
      saved.push(`not all finished frames could be kept: ${(error as Error).message}`);
    }
    return saved;
  }

  async #saveInto(folder: string, stage: StageName, video: Video, saved: string[]): Promise<void> {
    saved.push(await written(stage, video, `${folder}/${stage}/`));
    if (this.#nextStage !== undefined) {
      using all = new Video(await Tensor.cat(this.#parts.map((part) => part.tensor), 0), { fps: video.fps });
      saved.push(await written(this.#nextStage, all, `${folder}/${this.#nextStage}/`));
    }
  }

  /** Gives the last finished video away: it is the receiver's from now on. */
  release(): Video | undefined {
    const video = this.#video;
    this.#video = undefined;
    this.dispose();
    return video;
  }

  /** Frees what is kept. */
  dispose(): void {
    this.#video?.dispose();
    this.#video = undefined;
    this.#nextStage = undefined;
    for (const part of this.#parts.splice(0)) part.dispose();
  }

  /** Frees what is kept. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

async function written(stage: StageName, video: Video, folder: string): Promise<string> {
  await video.save(folder);
  const frames = video.frames === 1 ? "1 finished frame" : `${video.frames} finished frames`;
  return `kept ${frames} of ${stage} (${video.width}x${video.height}) in ${folder}`;
}
