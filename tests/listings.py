"""Files and lists for tests of data sets, and what was made of them."""

from pathlib import Path

from scipy.io import savemat

from ssl_video.datasets.base import VideoList


def put(root: Path, *names: str) -> None:
    """Empty files: loading looks at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def put_penn(root: Path, name: str, action: str, train: int) -> None:
    """A video of Penn Action with its labels; ``train`` is 1, or -1 for a test video."""
    put(root, f"frames/{name}/000001.jpg")
    (root / "labels").mkdir(exist_ok=True)
    savemat(root / "labels" / f"{name}.mat", {"action": action, "train": train, "nframes": 1})


def seen(videos: VideoList | None) -> list[tuple[str, str]]:
    """(file name, class) of every video."""
    assert videos is not None
    return [(Path(v.path).name, videos.classes[v.label] if v.labels else "") for v in videos.videos]


def names(videos: VideoList | None) -> list[str]:
    return [name for name, _ in seen(videos)]
