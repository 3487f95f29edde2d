"""Masks of the first frame of drawn tracks, carried to later ones by an untrained network."""

from itertools import islice
from pathlib import Path

import torch

from ssl_video.apps.paint import paint_mask
from ssl_video.datasets import synthetic
from ssl_video.datasets.masks import objects_in
from ssl_video.eval.carry import carry_masks
from ssl_video.eval.dense import network_features
from ssl_video.eval.propagation import CRW_DAVIS
from ssl_video.figures import figure_to
from ssl_video.model import load_model


def draw(out: Path) -> None:
    scene = synthetic.draw("tracks", 2, size=192)
    frames_THWC, mask_HW = scene.frames_THWC[10:], scene.masks_THW[10]
    torch.manual_seed(0)
    features = network_features(load_model("random:dense_resnet_8"))
    carried = carry_masks(frames_THWC, mask_HW, objects_in(mask_HW), features, CRW_DAVIS.affinity)
    masks_THW = list(islice(carried, 41))
    with figure_to(out, 11, 2.6) as figure:
        for ax, t in zip(figure.subplots(1, 5), range(0, 41, 10), strict=True):
            ax.imshow(paint_mask(frames_THWC[t], masks_THW[t]))
            ax.set_title("the given mask" if t == 0 else f"{t} frames later")
            ax.set_axis_off()
