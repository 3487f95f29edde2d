"""Checkpoints and weights for ``fuzzed``."""

import warnings
from pathlib import Path
from typing import Any

import torch

from ssl_video.run import Run


class Wrong(Exception):
    """Something was read that is not what was written."""


def draw_checkpoints(folder: Path) -> list[str]:
    from ssl_video.backbones.base import build_backbone
    from ssl_video.pretexts.base import build_pretext
    from ssl_video.pretraining import write_weights

    torch.manual_seed(0)
    run = Run(folder / "run")
    pretext = build_pretext("speediness", build_backbone("r2plus1d_4", width=2), {})
    for step in (10, 20):
        adam = {"state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.randn(40)}}, "groups": [{"lr": 1e-3}]}
        run.save_checkpoint(step, {"step": step, "pretext": pretext.state_dict(), "optimizer": adam})
    write_weights(run, pretext)
    torch.save(pretext.backbone.state_dict(), folder / "other.pth")
    torch.save(pretext.backbone.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    return ["run/checkpoints/step_00000020.pt", "run/backbone.safetensors", "run/pretext.safetensors", "other.pth",
            "old.pth"]  # fmt: skip


def look_at_checkpoint(folder: Path, name: str, whole: Path) -> None:
    from ssl_video.model import load_model

    if name.endswith(".pt"):
        state, right = Run(folder / "run").load_checkpoint(), Run(whole / "run").load_checkpoint()
        assert state is not None and right is not None
        if state["step"] == 20 and not _same(state, right):
            raise Wrong("altered bytes were loaded as a checkpoint")
        return
    if name.endswith(".pth"):
        load_model(f"net:r2plus1d_4?width=2&weights={folder / name}")  # which have no digest
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model, right = load_model(str(folder / "run")), load_model(str(whole / "run"))
    assert model.pretext is not None or said
    if not _same(model.backbone.state_dict(), right.backbone.state_dict()) or model.run != right.run:
        raise Wrong("altered bytes were loaded as a network")
    assert right.pretext is not None
    if model.pretext is not None and not _same(model.pretext.state_dict(), right.pretext.state_dict()):
        raise Wrong("altered bytes were loaded as a pretext")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def draw_columns(folder: Path) -> list[str]:
    """The lists of a run, in columns."""
    from ssl_video.datasets.base import ListedVideo, Video, VideoRows
    from ssl_video.datasets.rows import write_rows
    from ssl_video.video.info import VideoInfo

    info = VideoInfo(40, 25.0, 64, 48, 1.6, "h264", 3, 0.5, "0123456789abcdef", "9|7")
    videos: list[ListedVideo] = [Video(f"/v/{n}.mp4", (n % 2,) * (n % 3), f"g{n // 4}", info=info) for n in range(30)]
    about = {"name": "list", "classes": ["a", "b"], "left_out": [{"path": "/x.mp4", "reason": "cut", "passing": False}]}
    for name in ("training", "held_out"):
        write_rows(folder / "lists" / name, VideoRows.of(videos), about)
    return sorted(str(path.relative_to(folder)) for path in (folder / "lists" / "training").iterdir())


def look_at_columns(folder: Path, name: str, whole: Path) -> None:
    """All that is asked of lists: each video, all at once, what is held out, in which order."""
    from ssl_video.datasets.held_out import held_out
    from ssl_video.datasets.many import first_labels, in_fixed_order, labels_of, numbers, units

    lists = Run(folder).lists()
    assert lists is not None
    videos = lists.training
    assert len(list(videos.videos)) == len(videos.videos) == len(numbers(videos.videos, "frames"))
    first_labels(videos.videos), labels_of(videos.videos), units(videos.videos), in_fixed_order(videos.videos)[:3]
    held_out(videos, 0.2, 0), videos.hash, videos.labelled, videos.multi_label
