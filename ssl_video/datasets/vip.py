"""VIP (Video Instance-level Parsing): parts of people, as 19 classes and the background, in folders of pictures.

``Images/VIDEO/*.jpg``, ``Annotations/Category_ids/VIDEO/*.png``, and ``lists/val_videos.txt`` (or in the root) with the
name of a video a line. Not every frame has an annotation. Without a list, all folders are one list.

Q. Zhou et al.: "Adaptive Temporal Encoding Network for Video Instance-level Human Parsing", ACM MM 2018.
"""

from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits
from ssl_video.datasets.listing import folders_of_frames, list_of_split, names_of_videos, of_published
from ssl_video.errors import UserError
from ssl_video.files import as_named


@DATASETS.register("vip")
def load_vip(root: Path, split: int) -> Splits:
    """The list ``train_videos.txt`` where its videos are there, and ``val_videos.txt``. Raises UserError."""
    root = list_of_split({1: as_named(root)}, split, root)
    images, annotations = root / "Images", root / "Annotations" / "Category_ids"
    if not images.is_dir():
        raise UserError(f"There is no folder Images in {root}; name the folder of VIP that holds it and Annotations.")
    lists = {}
    for part in ("train", "val"):
        places = (root / "lists" / f"{part}_videos.txt", root / f"{part}_videos.txt")
        path = next((p for p in places if p.is_file()), None)
        if path is not None:
            found = folders_of_frames(f"{root.name} {part}", names_of_videos(path), images, annotations)
            lists[part] = of_published(found, f"vip:{part}")
    if "val" not in lists:
        names = sorted(p.name for p in images.iterdir() if p.is_dir())
        return Splits(folders_of_frames(root.name, names, images, annotations))
    train = lists.get("train")
    return Splits(train, lists["val"]) if train is not None and train.videos else Splits(lists["val"])
