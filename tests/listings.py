"""Files and lists for tests of data sets, and what was made of them."""

from pathlib import Path

from ssl_video.datasets.base import VideoSet


def put(root: Path, *names: str) -> None:
    """Empty files: loading looks at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def seen(videos: VideoSet | None) -> list[tuple[str, str]]:
    """(file name, class) of every video."""
    assert videos is not None
    return [(Path(v.path).name, videos.classes[v.label] if v.labels else "") for v in videos.videos]


def names(videos: VideoSet | None) -> list[str]:
    return [name for name, _ in seen(videos)]
