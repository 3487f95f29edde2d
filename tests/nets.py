"""A tiny backbone and drawn videos that need no files, for tests of what lies above them."""

import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.backbones.base import Backbone, ClipSpec, Provenance, chain
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.eval import features as features_module
from ssl_video.eval.base import Task
from ssl_video.model import Model
from ssl_video.video.info import VideoInfo
from ssl_video.video.view import View


def tiny_backbone(width: int = 8, **behind: nn.Module) -> Backbone:
    """One convolution and, where they are given, further stages of as many channels."""
    torch.manual_seed(0)
    conv = nn.Conv3d(3, width, 3, (1, 2, 2), 1, bias=False)
    stages = {"stem": nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU()), **behind}
    backbone = chain(stages, feature_dim=width, strides=(1, 2, 2), clip=ClipSpec(frames=4, size=8, min_size=4))
    backbone.provenance = Provenance("tiny")
    return backbone


def video_set(count: int = 12, frames: int = 40, classes: int = 2) -> VideoSet:
    info = VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264")
    videos = tuple(Video(f"/v/class{i % classes}/{i}.mp4", (i % classes,), info=info) for i in range(count))
    return VideoSet("drawn", videos, tuple(f"class{c}" for c in range(classes)))


def drawn_frames(video: Video, frames, each=None) -> np.ndarray:
    """Noise that grows brighter, so that speed shows even to a tiny network, and a dot as fast as its label says."""
    number = int(video.path.rsplit("/", 1)[1].split(".")[0])
    noise = np.random.default_rng(number).integers(0, 60, (12, 12, 3), dtype=np.uint8)
    out = np.repeat(noise[None], len(frames), axis=0)
    for row, t in enumerate(frames):
        out[row] += np.uint8(4 * t)
        out[row, (t * (1 + max(video.labels))) % 12, number % 12] = 255
    return out


def tiny_model(backbone: Backbone | None = None) -> Model:
    """A tiny network, by default ``tiny_backbone``, that is shown clips of four frames of 8x8 pixels."""
    return Model("tiny", (backbone or tiny_backbone()).eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


def drawn_task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """16 videos to train on and 8 to test, of two classes, whose frames are drawn (``drawn_frames``) from then on."""
    monkeypatch.setattr(features_module, "read_video", drawn_frames)
    whole = video_set(24)
    train, test = (VideoSet(n, whole.videos[a:b], whole.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0)
