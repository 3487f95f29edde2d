"""From a run to a small network that comes with ssl-video: one file in half precision, and its description.

What its header says of it is measured with that very file. ``check`` is a number on videos that are drawn in memory, by
which every installation can be compared with the machine that wrote the header.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_video._version import __version__
from ssl_video.apps.embedding import embed_frames
from ssl_video.backbones.weights.packaged import FOLDER, NETWORK
from ssl_video.capabilities import SpeedLogits
from ssl_video.datasets.masks import objects_in
from ssl_video.datasets.synthetic import draw
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.carry import carry_masks
from ssl_video.eval.dense import network_features
from ssl_video.eval.knn import unit
from ssl_video.eval.regions import jaccard
from ssl_video.files import sha256, write_text
from ssl_video.model import Model, load_model
from ssl_video.pretrain_config import noted_by
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors

LICENCE = "Apache-2.0"
"""That of ssl-video: the videos are drawn by it."""


@dataclass(frozen=True)
class Told:
    """What is told of a network: its purpose, its recipe by name, its data in a phrase, and how that was drawn.

    ``check`` is one of ``CHECKS``.
    """

    purpose: str
    recipe: str
    trained_on: str
    drawn: str
    check: str
    results: list[dict[str, Any]] = field(default_factory=list)


def write_packaged(name: str, run: Run, told: Told, measure: Callable[[str], list[dict[str, Any]]]) -> Path:
    """Write a finished run as ``FOLDER/NAME.safetensors`` and ``NAME.json``; returns the former.

    ``measure`` gets what names the model, and gives the results that stand in the header, the most telling one first.
    The exported network takes the place of the one that was trained, where these differ. Raises UserError.
    """
    trained, _ = load_tensors(run.pretext_file)
    exported, header = load_tensors(run.backbone_file)
    whole = trained | {f"{NETWORK}{k}": v for k, v in exported.items()}
    halved = {k: v.half() if v.is_floating_point() else v for k, v in whole.items()}
    config = without_paths(noted_by(run), told.drawn)
    said = {"name": name, **asdict(told), "config": config, "seed": config["seed"], "licence": LICENCE}
    header |= {"version": __version__, "data": header["data"] | {"spec": config["data"]}}
    path = FOLDER / f"{name}.safetensors"
    for known in (False, True):  # first to be measured, then with what was measured
        if known:
            said["results"] = measure(str(path))
            said["value"] = CHECKS[told.check](load_model(str(path)))
        save_tensors(path, halved, header | {"packaged": said})
    shown = {k: v for k, v in header.items() if k != "videos"}  # whose digests the file alone has
    description = {"sha256": sha256(path), "bytes": path.stat().st_size, "header": shown | {"packaged": said}}
    write_text(FOLDER / f"{name}.json", json.dumps(description, indent=1) + "\n")
    return path


def without_paths(config: Mapping[str, Any], drawn: str) -> dict[str, Any]:
    """A configuration without the folder of its videos, which others do not have; how they were drawn stands there."""
    here = str(config["data"])
    return {**config, "data": drawn if "/" in here else here}


def neighbours(model: Model) -> float:
    """Of 64 drawn videos of eight motions, the fraction whose nearest neighbour by cosine is of the same motion."""
    drawn = [draw("clips", number, split="test", seed=7) for number in range(64)]
    z_ND = unit(_standardised(embed_frames([scene.frames_THWC for scene in drawn], model, 2, "rich")))
    alike_NN = z_ND @ z_ND.T
    np.fill_diagonal(alike_NN, -np.inf)
    labels = np.array([scene.label for scene in drawn])
    return float((labels[alike_NN.argmax(1)] == labels).mean())


def _standardised(z_ND: np.ndarray) -> np.ndarray:
    return (z_ND - z_ND.mean(0)) / np.maximum(z_ND.std(0), 1e-6)


def masks(model: Model) -> float:
    """The mean overlap J of the objects of four drawn videos in their frames 4, 8 and 12, carried from the first."""
    found: list[float] = []
    for number in range(4):
        scene = draw("tracks", number, split="test", seed=7, frames=13)
        features = network_features(model)
        first_HW = scene.masks_THW[0]
        carried = list(carry_masks(scene.frames_THWC, first_HW, objects_in(first_HW), features, Affinity(context=4)))
        found += [jaccard(carried[t] == n, scene.masks_THW[t] == n) for n in objects_in(first_HW) for t in (4, 8, 12)]
    return float(np.mean(found))


def speed(model: Model) -> float:
    """The fraction of 48 drawn clips, each at its normal speed and at twice that, that are told to be so."""
    pretext, view, right = model.need(SpeedLogits), model.view, []
    for number in range(48):
        frames_THWC = view.prepare(draw("clips", number, split="test", seed=7).frames_THWC)
        for skip in (1, 2):
            at_T = np.arange(view.frames) * view.stride * skip
            if at_T[-1] >= len(frames_THWC):
                raise UserError(f"A clip of {model.name} at twice its speed is longer than a drawn video.")
            clip_1THWC = torch.from_numpy(frames_THWC[at_T][None])
            with torch.no_grad():
                logit = float(pretext.clip_logits(model.dense_map(clip_1THWC))[0])
            right.append((logit > 0) == (skip == 2))
    return float(np.mean(right))


CHECKS: dict[str, Callable[[Model], float]] = {"neighbours": neighbours, "masks": masks, "speed": speed}
"""By what a network is checked where it is installed."""
