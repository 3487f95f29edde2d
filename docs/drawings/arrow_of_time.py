"""The flow of one step forward, that of the step backward, and what a negated forward flow would be."""

from pathlib import Path

import numpy as np

from drawings import frames_of
from ssl_video.apps.explain_flow import wheel
from ssl_video.figures import figure_to
from ssl_video.video.flow import colour_wheel, farneback


def draw(out: Path) -> None:
    here_HWC, there_HWC = frames_of("stopgo")[20:22]
    forward_HW2, backward_HW2 = (
        farneback(np.stack(pair))[0] for pair in ((here_HWC, there_HWC), (there_HWC, here_HWC))
    )
    maximum = float(np.quantile(np.linalg.norm(forward_HW2, axis=2), 0.99))
    apart_HW = np.linalg.norm(backward_HW2 + forward_HW2, axis=2)
    pictures = {
        "frame": here_HWC,
        "next frame": there_HWC,
        "forward": colour_wheel(forward_HW2, maximum),
        "backward": colour_wheel(backward_HW2, maximum),
        "forward, negated": colour_wheel(-forward_HW2, maximum),
        f"their difference\n(black: {apart_HW.max():.1f} pixels)": 1 - apart_HW / apart_HW.max(),
        f"colours\n(rim: {maximum:.1f} pixels)": wheel(),
    }
    with figure_to(out, 12, 2.4) as figure:
        for ax, (title, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
            ax.set_title(title)
            ax.set_axis_off()
