"""What stands beside exported weights: config.json, and README.md, a card as on the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ssl_video.apps.page import markdown
from ssl_video.backbones.base import PerFrame
from ssl_video.model import Model

ONNX = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
clips_BTHWC = np.random.default_rng(0).integers(0, 256, {shape}, dtype=np.uint8)  # yours: prepared as above
features_BD, map_BDthw = session.run(["features", "map"], {{"clips": clips_BTHWC}})
"""
PROGRAM = """import torch

network = torch.export.load("model.pt2").module()
clips_BTHWC = torch.randint(0, 256, {shape}, dtype=torch.uint8)  # yours: prepared as above
with torch.no_grad():
    features_BD, map_BDthw = network(clips_BTHWC)
"""
OURS = """import torch
from ssl_video import load_model

model = load_model(".")  # the folder of this file
clips_BTHWC = torch.randint(0, 256, {shape}, dtype=torch.uint8)  # yours: prepared as above
features_BD = model.clip_features(clips_BTHWC)
"""
TORCHVISION = """import torch
import torchvision
from safetensors.torch import load_file

network = torchvision.models.get_model("{name}", weights=None)
network.{head} = torch.nn.Identity()  # its classifier was not trained
network.load_state_dict(load_file("model.safetensors"))
network.eval()

clips_BTHWC = torch.randint(0, 256, {shape}, dtype=torch.uint8)  # yours: prepared as above
mean, std = torch.tensor({mean}), torch.tensor({std})
x = ((clips_BTHWC / 255 - mean) / std).permute(0, 4, 1, 2, 3)  # (B, C, T, H, W)
with torch.no_grad():
    features_BD = {features}
"""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        model: the original.
        header: what is written with its weights.
        form: safetensors, onnx or torch-export.
        checks: comparisons with the original.
        torchvision: torchvision's network that has the same names, if there is one.
        plain: True if that network gives the same features.
    """

    model: Model
    header: Mapping[str, Any]
    form: str
    checks: Sequence[object]
    torchvision: str | None
    plain: bool


def config_of(about: Exported) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "library": "ssl-video",
        **{k: v for k, v in about.header.items() if k not in ("format", "videos")},
        "feature_dim": about.model.backbone.feature_dim,
        "strides": list(about.model.backbone.strides),
        "names": f"torchvision {about.torchvision}" if about.torchvision else "ssl-video",
    }


def card_of(about: Exported) -> str:
    """The text of README.md, with code for every way in which the features can be had."""
    model, header, form = about.model, about.header, about.form
    view, spec = model.view, model.backbone.clip
    rate = f"one of every {view.stride}" if view.fps is None else f"{view.fps:g} a second"
    shape = (2, view.frames, view.size, view.size, spec.channels)
    made = _made(about)
    kind = "RGB" if spec.modality == "rgb" else "optical flow, 128 + d \\* 127 / 20 with d in pixels a frame"
    lines = [
        f"# {header['architecture']}",
        "",
        f"A video network, {made}; exported by ssl-video {header['version']}.",
        "",
        f"* Clips: {view.frames} frames, {rate}, the shorter side resized to {view.short_side} pixels, the middle "
        f"{view.size}x{view.size} cut out; uint8 {kind}, (B, T, H, W, C).",
        f"* Features: {model.backbone.feature_dim} numbers a clip, the mean over a map of (B, D, t, h, w).",
        *(f"* Compared with the original: {markdown(str(check))}." for check in about.checks),
    ]
    snippets = {"ssl-video": OURS.format(shape=shape)}
    if form == "onnx":
        snippets["ONNX Runtime"] = ONNX.format(shape=shape)
    if form == "torch-export":
        snippets["torch.export"] = PROGRAM.format(shape=shape)
    if about.plain and about.torchvision:
        snippets["PyTorch and torchvision"] = _torchvision_code(about.torchvision, model, shape)
    elif about.torchvision:
        lines.append(
            f"* The weights have the names of torchvision's `{about.torchvision}`, but its forward pass does not give "
            "these features."
        )
    for title, code in snippets.items():
        lines += ["", f"## {title}", "", "```python", code.rstrip(), "```"]
    tags = ["video", "self-supervised-learning", "feature-extraction", str(header["architecture"])]
    tags += ["onnx"] if form == "onnx" else []
    head = {"library_name": "ssl-video", "pipeline_tag": "feature-extraction", "tags": tags}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n" + "\n".join(lines) + "\n"


def _made(about: Exported) -> str:
    """Where the weights come from, in words."""
    pretext, data, provenance = about.header.get("pretext"), about.header.get("data"), about.model.backbone.provenance
    made = "with random weights"
    if provenance.entry is not None:
        entry = provenance.entry
        made = f"with published weights, trained on {entry.trained_on} (licence: {entry.licence})"
    elif provenance.weights_report:
        made = "with the weights of a file"
    if pretext or about.model.classifier:
        how = f"with {markdown(about.header['supervision'])}" if about.header.get("supervision") else "without labels"
        made = f"trained {how} by `{pretext['name']}`" if pretext else "trained to classify"
    if data:
        made += f" on {data['videos']} videos of {markdown(data['spec'])} (split {data['split']})"
    return made


def sees_single_frames(model: Model) -> bool:
    """True for an image network that is applied to every frame."""
    return isinstance(next(iter(model.backbone.stages.values())), PerFrame)


def _torchvision_code(name: str, model: Model, shape: tuple[int, ...]) -> str:
    names = model.backbone.provenance.names
    assert names is not None
    head = names.heads[0].rstrip(".")
    network = "network" if head != "classifier" else "network.features"
    spec = model.backbone.clip
    per_frame = sees_single_frames(model)
    features = f"{network}({'x.transpose(1, 2).flatten(0, 1)' if per_frame else 'x'})"
    features += ".flatten(2).mean(2)" if head == "classifier" else ""
    features += f".unflatten(0, (-1, {shape[1]})).mean(1)" if per_frame else ""
    return TORCHVISION.format(
        name=name, head=head, shape=shape, mean=list(spec.mean), std=list(spec.std), features=features
    )
