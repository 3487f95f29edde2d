"""Four drawn videos side by side, looked at as one: what looks sped up is not what moves most."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F

from drawings import frames_of, stored
from ssl_video.apps.cam_maps import activation_maps, correlation, flow_magnitudes, head_of
from ssl_video.apps.cam_pictures import Painter, draw_pictures
from ssl_video.apps.options import CamOptions
from ssl_video.model import load_model


def draw(out: Path, run: str) -> None:
    tiles, shown = [], (("drift", 1), ("drift", 2), ("pulse", 1), ("pulse", 2))
    for name, speed in shown:
        tiles.append(frames_of(name, 96, 64 * speed)[::speed])
    frames_THWC = np.concatenate(tiles, axis=2)
    model = load_model(run)
    with TemporaryDirectory() as folder:
        video = stored(Path(folder) / "tiles.npy", frames_THWC)
        head = head_of(model, video)
        evidence = activation_maps(model, video, head, CamOptions(short_side=144, step=2))
        motion = flow_magnitudes(video)
    for (name, speed), evidence_Nhw, motion_Nhw in zip(
        shown, *(np.array_split(maps.values_Nhw, len(shown), axis=2) for maps in (evidence, motion)), strict=True
    ):
        motion_Nhw = F.interpolate(torch.from_numpy(motion_Nhw.astype(np.float32))[None], evidence_Nhw.shape[1:])[0]
        moving_Nhw = motion_Nhw.numpy() >= np.quantile(motion_Nhw, 0.9)  # the tenth of the cells that moves most
        print(
            f"{name} {speed}x: motion {motion_Nhw.numpy()[moving_Nhw].mean():.2f} frame sides/s, "
            f"evidence for normal {evidence_Nhw[moving_Nhw].mean():.2f}"
        )
    print(f"correlation of the two over all cells: {correlation(evidence, motion):.2f}")
    paint = Painter(evidence, motion)
    number = 20
    pictures = [np.array_split(picture, len(shown), axis=1) for picture in paint(frames_THWC[number], number)]
    titles = [f"{name}, {speed}x" for name, speed in shown]
    draw_pictures(out, list(zip(*pictures, strict=True)), titles, paint, head, "")
