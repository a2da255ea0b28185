#!/usr/bin/env python3
"""Measures a model from the outside: an independent check of `kinora evaluate`.

It makes videos through the command line, reads the GIF or PNG files with Pillow and the packed data set with its own
reader, and computes retrieval, motion, flicker and acceleration with numpy. Nothing of the kit is imported.

    python3 bench/quality/measure.py --concepts 16 --work out/quality
    deno task kinora evaluate default --concepts 16 --only retrieval,motion --json > evaluation.json
    python3 bench/quality/measure.py --concepts 16 --work out/quality --compare evaluation.json

Needs numpy and Pillow (requirements.txt). Videos that are in the work folder already are not made again.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

# Pixels at which frames are compared with pictures, at which motion is looked at, and of the border at the former.
SIDE, COARSE, BORDER = 32, 8, 2

# A sentence that no training caption has; with --compare those of the evaluation are used.
SENTENCES = ["my favourite {}, please"]

# How far the two may be apart. Shares: one prompt falls to the other side. The rest, of the larger number: PNG rounds
# colours to 1/255; a GIF has 256 colours, which matters where neighbouring frames hardly differ.
SHARE_PROMPTS = 1
TOLERANCE = {"png": {"motion": 0.02, "acceleration": 0.02, "border": 0.05},
             "gif": {"motion": 0.10, "acceleration": 0.10, "border": 0.30}}


def read_store(path):
    """The only tensor of a safetensors file, u8 (rows, side, side, 3), not loaded but mapped."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    (entry,) = [value for name, value in header.items() if name != "__metadata__"]
    if entry["dtype"] != "U8":
        sys.exit(f"{path}: expected bytes, not {entry['dtype']}")
    return np.memmap(path, np.uint8, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))


def box(pictures, side):
    """Box averages of (..., H, H, 3), H a multiple of side, in the unit of the pictures."""
    *front, height, _, colours = pictures.shape
    block = height // side
    return pictures.reshape(*front, side, block, side, block, colours).mean((-4, -2))


def read_frames(path):
    """All frames of a GIF or (animated) PNG, (F, H, W, 3) in [0, 1]."""
    with Image.open(path) as picture:
        frames = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB"), np.float64) / 255)
    return np.stack(frames)


def motion(clip):
    """Of frames (F, 32, 32, 3): difference and acceleration ratio at 8 x 8, and difference in the border."""
    coarse = box(clip, COARSE)
    first = np.abs(np.diff(coarse, axis=0)).mean()
    second = np.abs(np.diff(coarse, n=2, axis=0)).mean()
    ring = np.ones((SIDE, SIDE), bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    border = np.abs(np.diff(clip, axis=0))[:, ring].mean()
    return {"motion": first, "acceleration": second / first if first else 0.0, "border": border}


def spread(count, most):
    """Numbers of `most` of `count` things, evenly spread."""
    most = min(count, most)
    return [int((index + 0.5) * count / most) for index in range(most)]


def clip_rows(clip, frames, fps):
    """Rows of a looping clip that show it at a frame rate; halves round up."""
    stride = 1000 / clip["delayMs"] / fps
    return [clip["start"] + int(np.floor(frame * stride + 0.5)) % clip["length"] for frame in range(frames)]


def retrieval(frames, bank, right):
    """Shares of frames (Q, 32, 32, 3) whose own picture is the nearest of the bank, or among the five nearest."""
    ranks = []
    for frame, row in zip(frames, right):
        distances = ((bank - frame) ** 2).sum((1, 2, 3))
        ranks.append(int((distances < distances[row]).sum()))
    return {"r1": float(np.mean([rank < 1 for rank in ranks])), "r5": float(np.mean([rank < 5 for rank in ranks]))}


def make(options, name, prompts, extra):
    """The videos of some prompts through the command line: 32 x 32 averages of each."""
    folder = Path(options.work) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.split(options.kinora) + ["generate", "--seed", str(options.seed), *extra]
    if options.model:
        command += ["--model", str(Path(options.model).resolve())]

    def run(*arguments):
        process = subprocess.run(command + [str(argument) for argument in arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
        if process.returncode:
            sys.exit(f"kinora generate ended with {process.returncode}")

    if options.format == "gif":
        file = folder.with_suffix(".txt").resolve()
        file.write_text("".join(f"{prompt}\n" for prompt in prompts))
        run("--prompts", file, "--out", folder.resolve())
        paths = [folder / f"{index:04}.gif" for index in range(len(prompts))]
    else:
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{index:04}.png" for index in range(len(prompts))]
        for path, prompt in zip(paths, prompts):
            manifest = Path(f"{path}.json")
            # A video of another prompt or seed is not taken for this one.
            if manifest.exists():
                made = json.loads(manifest.read_text())
                if (made["prompt"], made["seed"]) == (prompt, options.seed):
                    continue
            run(prompt, "--out", path.resolve())
    return [box(read_frames(path), SIDE) for path in paths]


def measure(options, sentences):
    data = Path(options.data)
    index = json.loads((data / "index.json").read_text())
    concepts, clips = index["concepts"], index["clips"]
    stills = read_store(data / "stills64.safetensors")
    bank = np.concatenate([box(stills[[concept["still"]]] / 255, SIDE) for concept in concepts])
    chosen = spread(len(concepts), options.concepts)
    names = [concepts[row]["name"].lower() for row in chosen]
    prompts = {"names": names,
               "sentences": [sentences[at % len(sentences)].replace("{}", name) for at, name in enumerate(names)]}
    made = {name: make(options, f"{options.format}-{name}", texts, []) for name, texts in prompts.items()}
    figures = {}
    for name, videos in made.items():
        for which, frames in (("first", [video[0] for video in videos]), ("mean", [video.mean(0) for video in videos])):
            for rank, share in retrieval(frames, bank, chosen).items():
                figures[f"retrieval.{name}.{which}.{rank}"] = share
    moving = [at for at, row in enumerate(chosen) if concepts[row]["clip"] is not None]
    if moving:
        figures |= motion_figures(options, [made["names"][at] for at in moving], [names[at] for at in moving],
                                  [clips[concepts[chosen[at]]["clip"]] for at in moving], data)
    resting = [motion(video) for at, video in enumerate(made["names"]) if at not in moving]
    if resting:
        figures["motion.still"] = float(np.median([one["motion"] for one in resting]))
        figures["motion.still.border"] = float(np.mean([one["border"] for one in resting]))
    return figures


def motion_figures(options, videos, names, clips, data):
    store = read_store(data / "clips64.safetensors")
    frames = len(videos[0])
    quick = make(options, f"{options.format}-quick", names, ["--fps", "24"])
    real = [motion(box(store[clip_rows(clip, frames, options.fps)] / 255, SIDE)) for clip in clips]
    shown, fast = [motion(video) for video in videos], [motion(video) for video in quick]

    def each(rows, name):
        return np.array([row[name] for row in rows])

    def ratio(rows, others):
        below = each(others, "motion")
        return float(np.median((each(rows, "motion")[below > 0] / below[below > 0])))

    return {
        "motion.moving.ratio": ratio(shown, real),
        "motion.moving": float(np.median(each(shown, "motion"))),
        "motion.real": float(np.median(each(real, "motion"))),
        "motion.moving.acceleration": float(np.median(each(shown, "acceleration") - each(real, "acceleration"))),
        "motion.border_ratio": float(each(shown, "border").mean() / each(real, "border").mean()),
        "motion.moving.border": float(each(shown, "border").mean()),
        "motion.moving.quick_ratio": ratio(fast, shown),
    }


def compare(figures, evaluation, form):
    """Prints both numbers of each figure; whether all agree."""
    theirs = {figure["name"]: figure for figure in evaluation["figures"]}
    common = [name for name in figures if name in theirs]
    agree = bool(common)
    for name in common:
        own, other = figures[name], theirs[name]["value"]
        if name.startswith("retrieval"):
            allowed = SHARE_PROMPTS / theirs[name]["protocol"]["count"]
        else:
            kind = "border" if "border" in name else "acceleration" if "acceleration" in name else "motion"
            allowed = TOLERANCE[form][kind] * max(abs(own), abs(other))
        within = abs(own - other) <= allowed + 1e-12
        agree = agree and within
        print(f"{name:34} own {own:9.4f}  kinora {other:9.4f}  allowed {allowed:.4f}  {'ok' if within else 'APART'}")
    return agree


def self_test():
    """Measures against cases computed by hand."""
    random = np.random.default_rng(0)
    noise = motion(random.standard_normal((2000, SIDE, SIDE, 3)))
    assert abs(noise["acceleration"] - 3 ** 0.5) < 0.01, noise
    still = motion(np.ones((5, SIDE, SIDE, 3)) * 0.3)
    assert still == {"motion": 0, "acceleration": 0, "border": 0}, still
    even = motion(np.arange(5)[:, None, None, None] * 0.1 + np.zeros((5, SIDE, SIDE, 3)))
    assert abs(even["motion"] - 0.1) < 1e-12 and even["acceleration"] < 1e-9, even
    inner = np.zeros((4, SIDE, SIDE, 3))
    inner[1::2, BORDER:-BORDER, BORDER:-BORDER] = 1
    assert motion(inner)["border"] == 0 and motion(inner)["motion"] > 0.5
    assert np.allclose(box(np.arange(16.0).reshape(4, 4, 1).repeat(3, 2), 2)[..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert spread(1603, 3) == [267, 801, 1335] and spread(2, 9) == [0, 1]
    assert clip_rows({"start": 100, "length": 10, "delayMs": 50}, 4, 8) == [100, 103, 105, 108]
    bank = random.random((9, SIDE, SIDE, 3))
    assert retrieval(bank[[2, 5]] * 0.9, bank, [2, 5]) == {"r1": 1, "r5": 1}
    assert retrieval(bank[[2]], bank, [3])["r1"] == 0
    print("ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=ROOT / "data/fluent-emoji", help="the packed data set")
    parser.add_argument("--model", help="folder of another model")
    parser.add_argument("--work", default="out/quality", help="where videos go")
    parser.add_argument("--concepts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=float, default=8, help="frames a second of the model unless asked otherwise")
    parser.add_argument("--format", choices=["gif", "png"], default="gif",
                        help="gif makes all videos in one run of the command, png (exact) one a run")
    parser.add_argument("--kinora", default="deno task kinora", help="the command line, run in the repository")
    parser.add_argument("--compare", help="what `kinora evaluate --json` printed; exit code 1 when the two are apart")
    parser.add_argument("--self-test", action="store_true", help="only check the measures against cases by hand")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    evaluation, sentences = None, SENTENCES
    if options.compare:
        evaluation = json.loads(Path(options.compare).read_text())
        if (evaluation["concepts"], evaluation["seed"]) != (options.concepts, options.seed):
            sys.exit("the evaluation is of another number of concepts or another seed")
        told = [figure["protocol"].get("settings", {}).get("sentences") for figure in evaluation["figures"]]
        sentences = next((text.split(" | ") for text in told if text), SENTENCES)
    figures = measure(options, sentences)
    if evaluation is None:
        print(json.dumps(figures, indent=2))
        return None
    return 0 if compare(figures, evaluation, options.format) else 1


if __name__ == "__main__":
    sys.exit(main())
