"""One video, one network: frames that were kept out, edits and masks. ``python benchmarks/represent.py OUT NAME ...``

A NAME is ``drawn:NUMBER:SPRITES:EVERY``, every EVERY-th frame of a drawn track with so many objects, or
``ROOT:SEQUENCE``, of a set in the layout of DAVIS. Each is learned twice, as coordinates and as an atlas that starts
from the mask of the first frame, and a line is printed of both. The IoU is with the exact, or the annotated, masks of
all learned frames, those that were kept out among them. ``--steps A,C`` are those of the atlas and of coordinates,
``--frames N`` how many are learned, ``--size N`` their longer side.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import ssl_video as sv
from ssl_video.apps.options import RepresentOptions
from ssl_video.datasets.masks import VOID, read_mask
from ssl_video.datasets.synthetic import draw
from ssl_video.eval.regions import jaccard

HEAD = ("video", "network", "steps", "learned", "kept out", "blend", "along flow", "edit", "pasted", "IoU", "min")


def video_of(name: str, out: Path, frames: int) -> tuple[Path, list[Path]]:
    """A folder of pictures, and the masks of its frames."""
    root, *words = name.split(":")
    if root != "drawn":
        pictures = Path(root) / "JPEGImages" / "480p" / words[0]
        return pictures, sorted((Path(root) / "Annotations" / "480p" / words[0]).glob("*.png"))
    number, sprites, every = map(int, words)
    scene = draw("tracks", number, frames=frames * every, sprites=sprites)
    folders = out / "frames", out / "masks"
    for folder, pictures in zip(folders, (scene.frames_THWC, (scene.masks_THW > 0).astype(np.uint8)), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for t, picture in enumerate(pictures[::every]):
            Image.fromarray(picture).save(folder / f"{t:05d}.png")
    return folders[0], sorted(folders[1].glob("*.png"))


def iou(learned: Path, truth: list[Path]) -> float:
    """Mean over the frames that were learned, resized as the masks are."""
    scores = []
    for found, true in zip(sorted((learned / "masks").glob("*.png")), truth, strict=False):
        mask_HW, true_HW = read_mask(found) > 0, read_mask(true)
        small = Image.fromarray(((true_HW > 0) & (true_HW != VOID)).astype(np.uint8) * 255)
        size = mask_HW.shape[1], mask_HW.shape[0]
        scores.append(jaccard(mask_HW, np.asarray(small.resize(size, Image.Resampling.BOX)) > 127))
    return float(np.mean(scores))


def line(name: str, out: Path, options: RepresentOptions) -> str:
    """A line of the table."""
    assert options.frames is not None
    video, truth = video_of(name, out, options.frames)
    folder = out / options.kind
    mask = truth[0] if options.kind == "atlas" else None
    found = sv.represent(video, folder, mask=mask, options=options).numbers
    psnrs = [f"{found[f'psnr_{key}']:.2f}" for key in ("trained", "kept_out", "blend", "along_flow")]
    of_atlas = ["", "", ""]
    if mask is not None:
        of_atlas = [f"{found.get(f'consistency_{key}', np.nan):.3f}" for key in ("edit", "pasted")] + [
            f"{iou(folder, truth):.3f}"
        ]
    shown = name if name.startswith("drawn") else name.rpartition(":")[2]
    minutes = f"{found['minutes']:.1f}"
    return f"| {' | '.join([shown, options.kind, str(options.steps), *psnrs, *of_atlas, minutes])} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--steps", default="3000,1500")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--kinds", default="coordinates,atlas")
    given = parser.parse_args()
    steps = dict(zip(("atlas", "coordinates"), map(int, given.steps.split(",")), strict=True))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for name in given.names:
        where = given.out / name.rpartition("/")[2].replace(":", "-")
        for kind in given.kinds.split(","):
            options = RepresentOptions(kind=kind, steps=steps[kind], frames=given.frames, size=given.size)
            print(line(name, where, options), flush=True)
