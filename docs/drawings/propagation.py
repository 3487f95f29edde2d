"""Masks of a drawn track: what is drawn on the first frame, carried by Lab colours, and the exact ones."""

from pathlib import Path

import numpy as np

from drawings import draw_strip
from ssl_video.datasets import synthetic
from ssl_video.datasets.masks import objects_in
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.carry import carry_masks
from ssl_video.eval.dense import lab_features
from ssl_video.figures import figure_to


def draw(out: Path) -> None:
    scene, shown = synthetic.draw("tracks", 2, frames=40), (0, 8, 16, 24, 32)
    first_HW = scene.masks_THW[0]
    carried_THW = list(carry_masks(scene.frames_THWC, first_HW, objects_in(first_HW), lab_features(320), Affinity()))
    colours_K3 = np.array([[0, 0, 0], [255, 60, 60], [60, 220, 60], [90, 120, 255], [255, 210, 40], [230, 90, 230]])
    rows = {"exact": scene.masks_THW, "carried": carried_THW, "identity": [first_HW] * len(carried_THW)}
    with figure_to(out, 9, 5.6) as figure:
        for ax, (label, masks) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
            pictures = []
            for t in shown:
                mask_HW1, colour_HWC = masks[t][..., None], colours_K3[masks[t] % len(colours_K3)]
                picture_HWC = np.where(
                    mask_HW1 > 0, 0.35 * scene.frames_THWC[t] + 0.65 * colour_HWC, scene.frames_THWC[t]
                )
                pictures.append(np.pad(picture_HWC.astype(np.uint8), ((0, 0), (0, 4), (0, 0)), constant_values=255))
            draw_strip(ax, np.concatenate(pictures, axis=1), label)
