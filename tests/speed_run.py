"""A run of speediness that was not trained, and a video with sound, for tests of what uses them."""

from pathlib import Path

import numpy as np
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.eval.calibration import settle
from ssl_video.model import Classifier, header_of_backbone
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.video.sound import CHANNELS, RATE
from ssl_video.video.writer import Encoding, write_video
from tests.videos import pictures

SPAN = 7
"""Frames that a clip of the run covers: four, every second one."""


def save(folder: Path, pretext: str = "speediness", **options: object) -> Path:
    """A run with four frames a clip of 16 pixels."""
    torch.manual_seed(0)
    chosen = {"frames": 4, "stride": 2, "short_side": 18, "crop": 16, **options}
    made = build_pretext(pretext, build_backbone("r2plus1d_4", width=2, strides_t=(1, 1, 2, 1)), chosen)
    settle(made.backbone.eval(), [made.backbone], [torch.randn(16, 3, 4, 16, 16)])  # features that tell frames apart
    write_weights(Run(folder), made)
    return folder


def save_finetuned(folder: Path, classes: tuple[str, ...] = ("jump", "run", "sit")) -> Path:
    """What fine-tuning leaves behind: a backbone with a classifier."""
    torch.manual_seed(0)
    backbone = build_backbone("r2plus1d_4", width=2)
    view = build_pretext("speediness", backbone, {"frames": 4, "short_side": 18, "crop": 16}).view
    classifier = Classifier(backbone.feature_dim, classes)
    header = header_of_backbone(backbone, view, ()) | {"classes": classifier.classes}
    Run(folder).save_classifier(classifier.state_dict(), backbone.state_dict(), header)
    return folder


def draw_video(path: Path, count: int = 40, fps: int = 25, sound: bool = False) -> Path:
    """Frames that differ from each other, and a tone of 440 Hz."""
    time_S = np.arange(count * RATE // fps) / RATE
    tone_CS = np.tile(0.5 * np.sin(2 * np.pi * 440 * time_S), (CHANNELS, 1)).astype(np.float32)
    write_video(path, pictures(count), fps, Encoding({"crf": "12"}), sound=[tone_CS] if sound else None)
    return path
