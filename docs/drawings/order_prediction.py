"""Four frames of one video, and what the pretext shows of them in three of the twelve orders."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.order_prediction import ORDERS


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce")
    options = {"short_side": 120, "window": 100, "crop": 80, "motion": "difference"}
    pretext = build_pretext("order_prediction", build_backbone("single_frame"), options)
    motion = {"frame_difference": np.ones(len(frames_THWC), np.float32)}
    sample = pretext.sample(as_video("bounce", frames_THWC), motion, np.random.default_rng(0))
    assert isinstance(sample, Sample)
    read_THWC = frames_THWC[list(sample.frames)]
    rows = {"frames": read_THWC}
    for class_ in (0, 3, 10):
        shown = Sample(sample.frames, {"shown": ORDERS[class_], "class": class_})
        order = ", ".join(str(place + 1) for place in ORDERS[class_])
        rows[f"class {class_}\n{order}"] = pretext.transform(read_THWC, shown, np.random.default_rng(0))["frames_SHWC"]
    with figure_to(out, 6, 6.4) as figure:
        for ax, (label, strip) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
            strip = np.pad(strip, ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=255)
            draw_strip(ax, np.concatenate(list(strip), 1), label)
