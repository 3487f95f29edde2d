"""Five frames of one video, and the tuples that are made of them."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.tuple_verification import TOO_EARLY, TOO_LATE, TRIPLE


def draw(out: Path) -> None:
    frames_THWC = frames_of("orbit")
    options = {"tau_max": 12, "tau_min": 4, "size": 120, "motion": "difference"}
    pretext = build_pretext("tuple_verification", build_backbone("single_frame"), options)
    motion = {"frame_difference": np.ones(len(frames_THWC), np.float32)}
    sample = pretext.sample(as_video("orbit", frames_THWC), motion, np.random.default_rng(15))
    assert isinstance(sample, Sample)
    rows = {", ".join("abcde"): range(5)}
    for label, shown in (("in order", TRIPLE), ("shuffled", TOO_EARLY), ("shuffled", TOO_LATE)):
        rows[f"{label}\n" + ", ".join("abcde"[place] for place in shown)] = shown
    with figure_to(out, 7, 6.4) as figure:
        for ax, (label, places) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
            strip = np.full((5, 120, 124, 3), 255, np.uint8)
            strip[: len(places), :, :120] = frames_THWC[[sample.frames[place] for place in places]]
            draw_strip(ax, np.concatenate(list(strip), 1), label)
