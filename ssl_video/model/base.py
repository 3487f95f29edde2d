"""A trained (or random) network as evaluations and applications hold it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.weights import seen_in
from ssl_video.backbones.weights.files import OTHER_WEIGHTS
from ssl_video.capabilities import CAN, FrameEmbeddings
from ssl_video.errors import UserError
from ssl_video.model.finite import check_features
from ssl_video.model.readout import class_token, pool
from ssl_video.pretexts.base import Pretext, View, at_every_cell
from ssl_video.tensors import not_finite, some_of
from ssl_video.video.colours import in_colours

T = TypeVar("T")


class Classifier(nn.Module):
    """Mean over a feature map, batch norm if asked for, dropout, and a linear layer with one output a class."""

    def __init__(self, feature_dim: int, classes: Sequence[str], dropout: float = 0.0, batch_norm: bool = False):
        super().__init__()
        self.classes = tuple(classes)
        self.norm = nn.BatchNorm1d(feature_dim) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(feature_dim, len(self.classes))

    def forward(self, features_BDthw: Tensor) -> Tensor:
        """logits_BK of (B, D, t, h, w)."""
        return self.linear(self.dropout(self.norm(features_BDthw.mean((2, 3, 4)))))

    def heat_maps(self, features_BDthw: Tensor) -> Tensor:
        """(B, K, t, h, w) logits at every cell; their mean is the logit of the clip in eval mode."""
        cells_BDN = self.norm(features_BDthw.flatten(2))
        return at_every_cell(self.linear, cells_BDN.view_as(features_BDthw))


@dataclass
class Model:
    """A backbone, how to show videos to it, and where it comes from.

    ``trained_on`` says what it was pretrained on, empty for a random network. ``run`` is the header that was written
    with the weights.
    """

    name: str
    backbone: Backbone
    view: View
    run: Mapping[str, Any]
    device: torch.device
    pretext: Pretext | None = None
    classifier: Classifier | None = None

    def __repr__(self) -> str:
        """A line: networks and digests of videos would fill a notebook."""
        shown = f"{self.view.frames} frames of {self.view.size} pixels"
        return f"Model({self.name!r}, {self.backbone.architecture}, {shown}, on {self.device})"

    @property
    def trained_on(self) -> Set[str]:
        """Digests of the pretraining videos (``digest``), and names of published lists of them (SET:LIST)."""
        return self.backbone.provenance.trained_on | seen_in(self.run)

    def normalise(self, clips_BTHWC: Tensor) -> Tensor:
        """uint8 clips (RGB or flow) as the clip_BCTHW that the backbone takes, in the view's colours, on its device."""
        return self.backbone.normalise(in_colours(clips_BTHWC.to(self.device), self.view.colours))

    def check_weights(self) -> None:
        """Raise UserError if a weight, or a statistic of a batch norm, is not finite."""
        for module in (self.backbone, self.pretext, self.classifier):
            if module is not None and (wrong := not_finite(module)):
                some = some_of(wrong, len(module.state_dict()))
                raise UserError(f"{self.name} cannot be used: NaN or infinite numbers in {some}; {OTHER_WEIGHTS}.")

    def need(self, capability: type[T]) -> T:
        """What of the model has the capability, one of ``ssl_video.capabilities``: its pretext or its network.

        Raises UserError if neither has.
        """
        for owner in (self.pretext, self.backbone, self.backbone.network):
            if isinstance(owner, capability):
                return owner
        raise UserError(f"This needs a model that {CAN[capability]}, and {self.name} does not.")

    @torch.no_grad()
    def dense_map(self, clips_BTHWC: Tensor, stage: str | None = None) -> Tensor:
        """features_BDthw of prepared uint8 clips, at the last stage or at the one named.

        Raises UserError if there is no such stage, or what it gives is not finite.
        """
        map_BDthw = self._map(clips_BTHWC, stage)
        check_features(self.name, list(map_BDthw), "clip")
        return map_BDthw

    def _map(self, clips_BTHWC: Tensor, stage: str | None = None) -> Tensor:
        """As ``dense_map``, for callers that check what they make of it."""
        return self.backbone(self.normalise(clips_BTHWC), stage)

    @torch.no_grad()
    def clip_features(self, clips_BTHWC: Tensor, readout: str = "avg", stage: str | None = None) -> Tensor:
        """(B, D') features of prepared uint8 clips, read (``pool``) from the map of a stage, by default the last.

        ``cls`` is the class token behind the last block. As with ``logits`` and ``frame_embeddings``, the caller checks
        whether they are finite (``check_features``): it knows of which videos they are.

        Raises UserError for a readout that there is not, or that the network does not have.
        """
        if readout == "cls" and stage is None:
            return class_token(self.backbone, self.normalise(clips_BTHWC))
        return pool(self._map(clips_BTHWC, stage), readout)

    @torch.no_grad()
    def logits(self, clips_BTHWC: Tensor) -> Tensor:
        """logits_BK of prepared uint8 clips. Raises UserError if the model was not trained to classify."""
        if self.classifier is None:
            raise UserError(f"{self.name} has no classifier; make one with 'ssl-video evaluate finetune --run FOLDER'.")
        return self.classifier(self._map(clips_BTHWC))

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
