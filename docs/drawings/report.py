"""What a report shows of one sample of each of three pretexts: two of frames and one of flow."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.apps.inputs import Strip, strips
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.video.flow import encode, farneback


def draw(out: Path) -> None:
    options = {"frames": 8, "short_side": 88, "crop": 80}
    speed = {**options, "window": 3.0, "min_size": 80, "max_size": 80}
    frames_THWC = frames_of("pendulum")
    flow_THWC = encode(farneback(frames_THWC))
    chosen = (
        ("speediness", "r2plus1d_4", speed, frames_THWC),
        ("clip_order", "r2plus1d_4", {**options, "gap": 6}, frames_THWC),
        (
            "arrow_of_time",
            "flow_stack",
            {**options, "frames": 10, "stabilise": False, "zero_borders": False},
            flow_THWC,
        ),
    )
    rows: list[tuple[str, Strip]] = []
    for name, backbone, given, shown_THWC in chosen:
        pretext = build_pretext(name, build_backbone(backbone), given)
        rng = np.random.default_rng(2)
        sample = pretext.sample(as_video(name, shown_THWC), {}, rng)
        assert isinstance(sample, Sample)
        if sample.reversed:  # flow of the video played backwards
            shown_THWC = encode(farneback(frames_THWC[::-1]))
        arrays = pretext.transform(shown_THWC[list(sample.frames)], sample, rng)
        assert isinstance(arrays, dict)
        rows += [(name, strip) for strip in strips(arrays, pretext.label_words())]
    with figure_to(out, 11, 7.4) as figure:
        for ax, (name, strip) in zip(figure.subplots(len(rows), 1), rows, strict=True):
            draw_strip(ax, strip.picture_HWC, f"{name}\n" + strip.label.replace(", ", "\n"))
