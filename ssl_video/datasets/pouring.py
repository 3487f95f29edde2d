"""Pouring (the videos of Multi-View Pouring): one action, ``videos/train``, ``videos/val`` and ``videos/test``.

The phases of the TCC paper are not part of it: ``NAME_phases.csv`` beside a video (see ``phases``). The paper measures
on the test list.

P. Sermanet et al.: "Time-Contrastive Networks: Self-Supervised Learning from Video", ICRA 2018.
"""

from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits, VideoList
from ssl_video.datasets.folder import load_folder
from ssl_video.datasets.listing import list_of_split, of_published, split_named
from ssl_video.errors import UserError
from ssl_video.files import as_named


@DATASETS.register("pouring")
def load_pouring(root: Path, split: int) -> Splits:
    """Training list, and ``test``, or else ``val``. Raises UserError if the folders are not there."""
    root = list_of_split({1: as_named(root)}, split, root)
    videos = root / "videos" if (root / "videos").is_dir() else root
    found = load_folder(videos)
    if found.test is None:
        raise UserError(f"There are no folders videos/train and videos/test in {root}; name the folder of Pouring.")

    def one_action(videos: VideoList, name: str) -> VideoList:
        labelled = replace(videos, videos=tuple(replace(v, labels=(0,)) for v in videos.videos), classes=("pouring",))
        return of_published(labelled, f"pouring:{name}")

    name = split_named(Path(found.test.videos[0].path).relative_to(videos).parts[0])  # test, or else val
    return replace(found, train=one_action(found.train, "train"), test=one_action(found.test, name))
