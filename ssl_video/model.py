"""A trained (or random) network as evaluations and applications hold it, and how runs are written and read."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video._version import __version__
from ssl_video.backbones.base import Backbone, build_backbone
from ssl_video.backbones.weights import load_into, own_names
from ssl_video.capabilities import CAN, FrameEmbeddings
from ssl_video.datasets.base import Video
from ssl_video.encoders.base import ENCODERS, Encoder, build_encoder
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Pretext, View, at_every_cell, build_pretext
from ssl_video.tensors import load_tensors
from ssl_video.video.colours import COLOURS, in_colours

T = TypeVar("T")


class Classifier(nn.Module):
    """Mean over a feature map, dropout, and a linear layer with one output a class."""

    def __init__(self, feature_dim: int, classes: Sequence[str], dropout: float = 0.0):
        super().__init__()
        self.classes = tuple(classes)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(feature_dim, len(self.classes))

    def forward(self, features_BDthw: Tensor) -> Tensor:
        """logits_BK of (B, D, t, h, w)."""
        return self.linear(self.dropout(features_BDthw.mean((2, 3, 4))))

    def heat_maps(self, features_BDthw: Tensor) -> Tensor:
        """(B, K, t, h, w) logits at every cell; their mean is the logit of the clip (without dropout)."""
        return at_every_cell(self.linear, features_BDthw)


@dataclass
class Model:
    """A backbone, how to show videos to it, and where it comes from.

    ``trained_on`` holds digests of the videos it was pretrained on (``digest``), empty for a random network. ``run`` is
    the header that was written with the weights.
    """

    name: str
    backbone: Backbone
    view: View
    run: Mapping[str, Any]
    device: torch.device
    pretext: Pretext | None = None
    classifier: Classifier | None = None

    @property
    def trained_on(self) -> frozenset[str]:
        """Digests of the pretraining videos."""
        return self.backbone.trained_on | frozenset(self.run.get("videos", ()))

    def normalise(self, clips_BTHWC: Tensor) -> Tensor:
        """uint8 clips (RGB or flow) as the clip_BCTHW that the backbone takes, in the view's colours, on its device."""
        return self.backbone.normalise(in_colours(clips_BTHWC.to(self.device), self.view.colours))

    def need(self, capability: type[T]) -> T:
        """What of the model has the capability, one of ``ssl_video.capabilities``: its pretext or its backbone.

        Raises UserError if neither has.
        """
        for part in (self.pretext, self.backbone):
            if isinstance(part, capability):
                return part
        raise UserError(f"This needs a model that {CAN[capability]}, and {self.name} does not.")

    @torch.no_grad()
    def dense_map(self, clips_BTHWC: Tensor, stage: str | None = None) -> Tensor:
        """features_BDthw of prepared uint8 clips, at the last stage or at the one named. Raises UserError."""
        if stage is not None and stage not in self.backbone.stages:
            raise UserError(f"{self.name} has no stage {stage!r}; there are: {', '.join(self.backbone.stages)}.")
        return self.backbone(self.normalise(clips_BTHWC), stage)

    def clip_features(self, clips_BTHWC: Tensor, readout: str = "avg", stage: str | None = None) -> Tensor:
        """(B, D') features of prepared uint8 clips, pooled (see ``pool``) from the map of a stage (``dense_map``)."""
        return pool(self.dense_map(clips_BTHWC, stage), readout)

    @torch.no_grad()
    def logits(self, clips_BTHWC: Tensor) -> Tensor:
        """logits_BK of prepared uint8 clips. Raises UserError if the model was not trained to classify."""
        if self.classifier is None:
            raise UserError(f"{self.name} has no classifier; make one with 'ssl-video evaluate finetune --run FOLDER'.")
        return self.classifier(self.dense_map(clips_BTHWC))

    def frame_embeddings(self, frames_THWC: np.ndarray, batch: int = 16, stage: str | None = None) -> np.ndarray:
        """(T, D) one embedding a frame: the pretext's own where it has such, ``batch`` frames at a time.

        Otherwise, or at a ``stage``, the features of the clip around the frame; border frames are repeated at the ends.
        """
        prepared = self.view.prepare(frames_THWC)
        if stage is None and isinstance(self.pretext, FrameEmbeddings):
            return self.pretext.frame_embeddings(prepared, batch).float().cpu().numpy()
        offsets = (np.arange(self.view.frames) - self.view.frames // 2) * self.view.stride
        positions = np.clip(np.arange(len(prepared))[:, None] + offsets, 0, len(prepared) - 1)
        parts = [
            self.clip_features(torch.from_numpy(prepared[positions[i : i + batch]]), stage=stage).cpu()
            for i in range(0, len(prepared), batch)
        ]
        return torch.cat(parts).numpy()


READOUTS = ("avg", "max", "rich", "conv5")


def pool(features_BDthw: Tensor, readout: str) -> Tensor:
    """A feature map as one vector a clip.

    ``avg``: mean over space and time. ``max``: maximum over space, mean over time. ``rich``: both of these and the
    standard deviation over time of the spatial maximum. ``conv5``: maximum over cells of 1x2x2, flattened (the
    retrieval features of Xu et al., "Self-Supervised Spatiotemporal Learning via Video Clip Order Prediction", 2019).
    """
    if readout == "avg":
        return features_BDthw.mean((2, 3, 4))
    if readout == "conv5":
        kernel = (1, min(2, features_BDthw.shape[3]), min(2, features_BDthw.shape[4]))
        return torch.nn.functional.max_pool3d(features_BDthw, kernel).flatten(1)
    peak_BDt = features_BDthw.amax((3, 4))
    if readout == "max":
        return peak_BDt.mean(2)
    if readout == "rich":
        spread = peak_BDt.std(2, correction=0)
        return torch.cat([peak_BDt.mean(2), features_BDthw.mean((2, 3, 4)), spread], dim=1)
    raise UserError(f"There is no readout {readout!r}; there are: {', '.join(READOUTS)}.")


def digest(video: Video) -> str:
    """8 hexadecimal digits of a video's folder and name: enough to recognise a file that was trained on."""
    return hashlib.sha256("/".join(Path(video.source).parts[-2:]).encode()).hexdigest()[:8]


def header_of_backbone(backbone: Backbone, view: View, digests: Iterable[str]) -> dict[str, Any]:
    """What is written with any backbone's weights: what it takes to build it again and to show videos to it.

    ``digests`` are those of the videos that it was trained on.
    """
    return {
        "format": 1,
        "version": __version__,
        "architecture": backbone.architecture,
        "options": backbone.options,
        "clip": asdict(backbone.clip),
        "view": asdict(view),
        "videos": sorted(digests),
    }


def load_backbone(path: Path | str) -> Backbone:
    """The backbone of a run (its folder or backbone.safetensors). Raises UserError; never executes the file."""
    return load_model(str(path)).backbone


def load_model(spec: str, device: torch.device | str = "cpu") -> Model:
    """A model from a run's or an exported folder, a .safetensors, ``random:NAME?option=value&...`` or ``random:RUN``.

    ``random:RUN`` is the network of a run, and its view of a video, with fresh weights: the baseline for that run.
    What its pretext fitted to the data (``Pretext.fitted``) stays.

    Raises:
        UserError: if there is no such thing, or its weights do not fit the architecture they claim.
    """
    device = torch.device(device)
    if spec.startswith("random:"):
        return _random(spec, device)
    path = Path(spec)
    if _names_encoder(spec):
        raise UserError(f"{spec} is an encoder, not a network; 'ssl-video evaluate' alone takes it.")
    weights_file = _weights_file(path)
    if not weights_file.exists():
        why = "holds no backbone.safetensors (is its training finished?)" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {why}; a model is a run's folder, a .safetensors file or random:NAME.")
    weights, header = load_tensors(weights_file)
    backbone, view, pretext = _from_header(header, str(weights_file))
    weights = own_names(weights, backbone.names)
    load_into(backbone, weights, str(weights_file))
    heads = weights_file.with_name("pretext.safetensors")
    if weights_file.name == "backbone.safetensors" and heads.exists() and pretext is not None:
        extra, _ = load_tensors(heads)
        whole = any(k.startswith("backbone.") for k in extra)  # version 0.1 wrote the heads alone
        load_into(pretext, extra if whole else {f"backbone.{k}": v for k, v in weights.items()} | extra, str(heads))
    else:
        pretext = None
    classifier, head = None, weights_file.with_name("classifier.safetensors")
    if weights_file.name == "backbone.safetensors" and head.exists() and header.get("classes"):
        classifier = Classifier(backbone.feature_dim, header["classes"])
        load_into(classifier, load_tensors(head)[0], str(head))
        classifier.to(device).eval()
    model = Model(spec, backbone, view, header, device, pretext, classifier)
    (pretext or backbone).to(device).eval()
    return model


def load_model_or_encoder(spec: str, device: torch.device | str = "cpu") -> Model | Encoder:
    """A model as of ``load_model``, or an encoder by its name: ``improved-trajectories?gmm=64``. Raises UserError."""
    return build_encoder(spec) if _names_encoder(spec) else load_model(spec, device)


def _weights_file(path: Path) -> Path:
    """Where the weights of a model are: a run's folder has another file of them than an exported one."""
    files = (path / "backbone.safetensors", path / "model.safetensors")
    return next((f for f in files if f.exists()), files[0]) if path.is_dir() else path


def _names_encoder(spec: str) -> bool:
    return not Path(spec).exists() and spec.partition("?")[0] in ENCODERS.names()


def _random(spec: str, device: torch.device) -> Model:
    name, _, query = spec.removeprefix("random:").partition("?")
    pretext = None
    weights_file = _weights_file(Path(name))
    if Path(name).is_dir() and weights_file.exists():
        _, header = load_tensors(weights_file)
        backbone, view, pretext = _from_header(header, name)
        heads = Path(name) / "pretext.safetensors"
        if pretext is not None and pretext.fitted and heads.exists():  # classes of colours are no weights, say
            load_into(pretext, pretext.state_dict() | _parts(load_tensors(heads)[0], pretext.fitted), str(heads))
    else:
        backbone = build_backbone(name, **dict(parse_qsl(query, keep_blank_values=True)))
        c = backbone.clip
        view = View(c.frames, 1, max(c.size, round(c.size * 8 / 7)), c.size)
    (pretext or backbone).to(device).eval()
    return Model(spec, backbone, view, {"architecture": backbone.architecture}, device, pretext)


def _parts(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    return {name: weights[name] for name in names if name in weights}


def _from_header(header: Mapping[str, Any], where: str) -> tuple[Backbone, View, Pretext | None]:
    try:
        backbone = build_backbone(header["architecture"], **header["options"])
        numbers = {k: int(header["view"][k]) for k in ("frames", "stride", "short_side", "size")}
        colours = header["view"].get("colours", "rgb")  # files of before this field are of RGB
        if colours not in COLOURS:
            raise ValueError(colours)
        view = View(**numbers, fps=header["view"].get("fps"), colours=colours)
        chosen = header.get("pretext")
        pretext = build_pretext(chosen["name"], backbone, chosen["options"]) if chosen else None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where} has a header that this version does not understand ({error!r}).") from None
    return backbone, view, pretext
