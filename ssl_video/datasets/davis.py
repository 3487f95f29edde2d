"""DAVIS: videos as folders of pictures, with masks of one object (2016) or of several (2017).

``JPEGImages/480p/NAME/00000.jpg`` and ``Annotations/480p/NAME/00000.png`` (or another resolution), and lists
of names ``ImageSets/2017/val.txt`` and ``ImageSets/2016/val.txt``, or ``ImageSets/480p/val.txt`` with a pair of files a
line, as first published. Split 1 is the newest year whose list is there, split 2016 or 2017 that year. Without a list,
all folders are one list.

F. Perazzi et al.: "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
J. Pont-Tuset et al.: "The 2017 DAVIS Challenge on Video Object Segmentation", 2017.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits, VideoList
from ssl_video.datasets.listing import folders_of_frames, names_of_videos, of_published
from ssl_video.errors import UserError
from ssl_video.files import as_named

YEARS = ("2017", "2016")


@DATASETS.register("davis")
def load_davis(root: Path, split: int) -> Splits:
    """The list ``train`` where its videos are there, and ``val``. Raises UserError."""
    root = as_named(root)
    resolution = _resolution(root)
    lists = [root / "ImageSets" / year for year in (*YEARS, resolution)]
    lists = [folder for folder in lists if (folder / "val.txt").is_file()]
    if split != 1:
        if lists and str(split) not in [folder.name for folder in lists]:
            have = ", ".join(folder.name for folder in lists)
            raise UserError(f"{root} has no list of the year {split}; there are: {have}.")
        lists = [root / "ImageSets" / str(split)] if lists else []
    if not lists:
        names = sorted(p.name for p in (root / "JPEGImages" / resolution).iterdir() if p.is_dir())
        return Splits(_of(root, resolution, names, f"{root.name} {resolution}"))
    year = lists[0].name

    def found(name: str) -> VideoList:
        videos = _of(root, resolution, names_of_videos(lists[0] / f"{name}.txt"), f"{root.name} {year} {name}")
        return of_published(videos, f"davis{year if year in YEARS else '2016'}:{name}")  # others are of the first set

    val = found("val")
    if not (lists[0] / "train.txt").is_file():
        return Splits(val)
    train = found("train")
    return Splits(train, val) if train.videos else Splits(val)


def _resolution(root: Path) -> str:
    folder = root / "JPEGImages"
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not found:
        raise UserError(f"There is no folder JPEGImages/480p in {root}; name the folder of DAVIS that holds it.")
    return "480p" if "480p" in found else found[0]


def _of(root: Path, resolution: str, names: Sequence[str], title: str) -> VideoList:
    return folders_of_frames(title, names, root / "JPEGImages" / resolution, root / "Annotations" / resolution)
