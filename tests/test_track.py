import csv
import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_video.apps import track as app
from ssl_video.apps.adapt import adapt
from ssl_video.apps.track import checked_points, mask_of_boxes, paint_mask, paint_points, track_masks, track_points
from ssl_video.backbones.base import Backbone, ClipSpec, build_backbone
from ssl_video.cli import main
from ssl_video.datasets.masks import read_mask
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.dense import FrameFeatures, network_features
from ssl_video.model import Model, header_of, load_model, save_run
from ssl_video.pretexts.base import View, build_pretext
from ssl_video.video.reader import read_frames
from ssl_video.video.writer import write_video
from tests import videos

CELL, H, W = 8, 48, 64
RANDOM = "random:dense_resnet_8?width=4"
HOW = Affinity(context=2, radius=3, topk=1)
PATHS = {1: [(1, 1), (1, 2), (2, 2), (2, 3)], 2: [(4, 6), (4, 7), None, None]}
"""Row and column of the map at which each of two objects is in four frames; the second one leaves."""


def pooling_features() -> FrameFeatures:
    """The mean colour of each cell of 8x8 pixels."""
    clip = ClipSpec(frames=1, size=16, mean=(0.5,) * 3, std=(0.5,) * 3, min_size=8)
    pool = nn.Conv3d(3, 3, (1, CELL, CELL), (1, CELL, CELL), bias=False)
    pool.weight.data = torch.eye(3)[:, :, None, None, None].repeat(1, 1, 1, CELL, CELL) / CELL**2
    backbone = Backbone({"pool": pool}, feature_dim=3, strides=(1, CELL, CELL), clip=clip)
    return network_features(Model("pooling", backbone, View(1, 1, 16, 16), {}, torch.device("cpu")))


def drawn(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """frame_HWC of a red and a green cell before blue ones, and its mask_HW."""
    mask_hw = np.zeros((H // CELL, W // CELL), np.uint8)
    for number, path in PATHS.items():
        if (place := path[frame]) is not None:
            mask_hw[place] = number
    colours = np.array([(20, 20, 200), (250, 10, 10), (10, 250, 10)], np.uint8)
    return tuple(np.kron(x, np.ones((CELL, CELL), np.uint8)) for x in (mask_hw,)) and (
        colours[np.kron(mask_hw, np.ones((CELL, CELL), np.uint8))],
        np.kron(mask_hw, np.ones((CELL, CELL), np.uint8)),
    )


def save_mask(path: Path, mask_HW: np.ndarray) -> Path:
    Image.fromarray(mask_HW).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four frames as pictures."""
    path = tmp_path / "frames"
    path.mkdir()
    for n in range(4):
        Image.fromarray(drawn(n)[0]).save(path / f"{n:03d}.png")
    return path
