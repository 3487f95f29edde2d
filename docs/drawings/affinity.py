"""A point of a drawn object in later frames, as an untrained network finds it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from drawings import stored
from ssl_video.apps.explain_affinity import affinity_of, draw_affinity
from ssl_video.datasets import synthetic
from ssl_video.model import load_model


def draw(out: Path) -> None:
    frames_THWC = synthetic.draw("tracks", 2, size=192).frames_THWC
    with TemporaryDirectory() as folder:
        video = stored(Path(folder) / "tracks.npy", frames_THWC)
        torch.manual_seed(0)
        model = load_model("random:dense_resnet_8")
        draw_affinity(affinity_of(model, video, (136, 64), 10, (16, 22, 28, 34)), out)
