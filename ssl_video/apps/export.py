"""A trained network for use elsewhere: safetensors, ONNX or torch.export, compared with the original before it is kept.

The folder has the layout of a model on the Hugging Face Hub, and ``load_model`` reads it.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.apps.model_card import Exported, card_of, config_of, sees_single_frames
from ssl_video.apps.options import Format
from ssl_video.errors import UserError, needs
from ssl_video.files import check_new, folder_written_aside, write_text
from ssl_video.model import Model, header_of_backbone, load_model
from ssl_video.progress import bar
from ssl_video.tensors import save_tensors

Answer = Callable[[Tensor], tuple[np.ndarray, ...]]  # uint8 clips_BTHWC -> features_BD, map_BDthw (or features alone)

TRACED = 2
"""Clips of the batch with which a network is traced."""
CHECKED = (1, 3)
"""Batches of the comparison: other ones than ``TRACED``, so that a batch that was fixed in the trace is found out."""
TOLERANCE = 1e-4
"""Largest difference, as a fraction of the largest absolute value of the original."""


class NotTheSame(Exception):
    """The exported network answers otherwise than the original."""


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from the original, on ``batch`` random clips.

    ``output`` is features or map, ``largest`` the original's largest absolute value.
    """

    what: str
    batch: int
    output: str
    difference: float
    largest: float

    @property
    def holds(self) -> bool:
        """True if the difference is small; a NaN is not."""
        return self.difference <= TOLERANCE * self.largest

    def __str__(self) -> str:
        clips = f"{self.batch} clip{'s' if self.batch > 1 else ''}"
        return (
            f"{self.what}, {clips}: max abs difference of the {self.output} {self.difference:.2g} (values up to "
            f"{self.largest:.3g}, allowed {TOLERANCE * self.largest:.2g})"
        )


class ClipFeatures(nn.Module):
    """What is exported: from uint8 clips to features, normalisation included."""

    def __init__(self, model: Model):
        super().__init__()
        self.model, self.backbone = model, model.backbone

    def forward(self, clips_BTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """features_BD, the mean over the map, and map_BDthw."""
        map_BDthw = self.backbone(self.model.normalise(clips_BTHWC))
        return map_BDthw.mean((2, 3, 4)), map_BDthw


def export(model: Model, out: Path, form: Format) -> list[Parity]:
    """Write the model's backbone (on the CPU, in fp32) into the new or empty folder ``out``.

    Returns the comparisons with the original, all of which hold.

    Raises:
        UserError: if ``out`` is in use, a package is missing, or the network cannot be exported so, or is not finite.
        NotTheSame: if a comparison fails. Nothing is left behind then.
    """
    check_new(out)
    model.check_weights()
    if form == "onnx":
        _onnx_packages()  # a missing one is said before the work
    with folder_written_aside(out) as folder:
        header = _header(model)
        network = torchvision_name(model)
        weights = model.backbone.state_dict()
        if network is not None:
            names = model.backbone.provenance.names
            assert names is not None
            weights = {names.published[k]: v for k, v in weights.items()}
        save_tensors(folder / "model.safetensors", weights, header)
        again = load_model(str(folder))
        checks = _compare("model.safetensors", model, lambda clips: answers(again, clips))
        if form != "safetensors":
            name, answer = _traced(model, folder, form)
            checks += _compare(name, model, answer)
        plain = []
        if network is not None and model.view.colours == "rgb":  # the card's code converts no colours
            plain = _compare(f"torchvision's {network}", model, _in_torchvision(network, model))
        about = Exported(model, header, form, checks, network, bool(plain) and all(c.holds for c in plain))
        checks += plain if about.plain else []
        write_text(folder / "config.json", json.dumps(config_of(about), indent=1) + "\n")
        write_text(folder / "README.md", card_of(about))
        if failing := [c for c in checks if not c.holds]:
            raise NotTheSame(f"The exported network is not the original, and nothing was written: {failing[0]}.")
    return checks


def answers(model: Model, clips_BTHWC: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """features_BD and map_BDthw of a model."""
    return model.clip_features(clips_BTHWC).cpu().numpy(), model.dense_map(clips_BTHWC).cpu().numpy()


def random_clips(model: Model, batch: int) -> Tensor:
    """uint8 noise of the shape that the model is shown, clips_BTHWC; the same at every call."""
    shape = (batch, model.view.frames, model.view.size, model.view.size, model.backbone.clip.channels)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(batch), dtype=torch.uint8)


def torchvision_name(model: Model) -> str | None:
    """torchvision's name of the network, if it has all of its tensors under the same names, but for its head."""
    from torchvision.models import get_model

    names = model.backbone.provenance.names
    if names is None or names.torchvision is None:
        return None
    with torch.device("meta"):
        theirs = get_model(names.torchvision, weights=None).state_dict()
    ours = {names.published.get(k, k): v.shape for k, v in model.backbone.state_dict().items()}
    same = ours == {k: v.shape for k, v in theirs.items() if not k.startswith(names.heads)}
    return names.torchvision if same else None


def _in_torchvision(name: str, model: Model) -> Answer:
    """The features as plain torchvision computes them from the weights; the model card shows the same in code."""
    from torchvision.models import get_model

    names = model.backbone.provenance.names
    assert names is not None
    with torch.device("meta"):  # all of its weights come from ours
        network = get_model(name, weights=None)
    network.register_module(names.heads[0].rstrip("."), nn.Identity())
    network.load_state_dict({names.published[k]: v for k, v in model.backbone.state_dict().items()}, assign=True)
    network.eval()
    more = names.heads[0] == "classifier."  # before it, these networks do more than to take the mean
    forward = network.get_submodule("features") if more else network
    per_frame = sees_single_frames(model)

    @torch.no_grad()
    def features(clips_BTHWC: Tensor) -> tuple[np.ndarray, ...]:
        x = model.normalise(clips_BTHWC)
        x = x.transpose(1, 2).flatten(0, 1) if per_frame else x
        try:
            y = forward(x).flatten(2).mean(2) if more else forward(x)
        except RuntimeError:  # a size of clips that only our network takes
            return (np.empty(0),)
        y_BD = y.unflatten(0, (len(clips_BTHWC), -1)).mean(1)
        return (y_BD.numpy(),)

    return features


def _header(model: Model) -> dict[str, Any]:
    """What is known of the model, without the folders of the machine it was made on."""
    header = dict(model.run)
    if "view" not in header:  # a random network
        header = header_of_backbone(model.backbone, model.view, model.trained_on)
    if data := header.get("data"):
        header["data"] = {**data, "spec": without_folders(str(data.get("spec", "")))}
    if header.get("pretext"):
        header["pretext"] = without_folders(header["pretext"])
    header.pop("classes", None)  # they belong to a classifier, which is not exported
    return header


def without_folders(value: Any) -> Any:
    """Options with the last part alone of what is a path of this machine: ``frozen:/home/me/run`` is ``frozen:run``."""
    if isinstance(value, Mapping):
        return {name: without_folders(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    kind, colon, path = value.rpartition(":")
    return kind + colon + Path(path).name


def _traced(model: Model, folder: Path, form: Format) -> tuple[str, Answer]:
    """Write model.onnx or model.pt2; the name of the file, and what it answers when it is read again."""
    example = (random_clips(model, TRACED),)
    network = ClipFeatures(model).eval()
    path = folder / ("model.onnx" if form == "onnx" else "model.pt2")
    try:
        with warnings.catch_warnings():  # torch's remarks on its own way; what counts is compared below
            warnings.simplefilter("ignore")
            batch = ({0: torch.export.Dim("batch", min=1)},)
            program = torch.export.export(network, example, dynamic_shapes=batch)
            if form == "torch-export":
                torch.export.save(program, path)
                return path.name, _program_answer(path)
            traced = torch.onnx.export(
                program, input_names=["clips"], output_names=["features", "map"], dynamo=True, verbose=False
            )
            assert traced is not None
            traced.save(str(path))
            return path.name, _onnx_answer(path)
    except Exception as error:  # the exporters have no common error, and any network may be one they cannot trace
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error.__cause__ or error))  # they write in colours
        reason = " ".join(said.split())[:200]
        raise UserError(
            f"{model.backbone.architecture} cannot be exported as {form} by torch {torch.__version__} "
            f"({type(error).__name__}: {reason}); use --format safetensors."
        ) from None


def _program_answer(path: Path) -> Answer:
    network = torch.export.load(path).module()

    @torch.no_grad()
    def answer(clips_BTHWC: Tensor) -> tuple[np.ndarray, ...]:
        features_BD, map_BDthw = network(clips_BTHWC)
        return features_BD.numpy(), map_BDthw.numpy()

    return answer


def _onnx_answer(path: Path) -> Answer:
    session = _onnx_packages().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda clips_BTHWC: tuple(session.run(["features", "map"], {"clips": clips_BTHWC.numpy()}))


def _onnx_packages() -> Any:
    """The module onnxruntime. Raises UserError if it, or what torch needs to write ONNX, is not installed."""
    try:
        import onnx  # noqa: F401  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
        import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise needs("--format onnx", error.name or "onnx", "export", "onnx onnxscript onnxruntime") from None
    return onnxruntime


def _compare(what: str, model: Model, exported: Answer) -> list[Parity]:
    """One comparison for each of the batches, of the features, or of the map if only that is off."""
    checks = []
    for batch in bar(CHECKED, f"check {what}", "batch"):
        clips_BTHWC = random_clips(model, batch)
        found = []
        for output, a, b in zip(("features", "map"), answers(model, clips_BTHWC), exported(clips_BTHWC), strict=False):
            difference = float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
            found.append(Parity(what, batch, output, difference, float(np.abs(a).max())))
        checks.append(next((p for p in found if not p.holds), found[0]))
    return checks
