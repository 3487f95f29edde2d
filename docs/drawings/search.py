"""Three drawn videos as queries, and the four that an index by an untrained network finds for each."""

import tempfile
from pathlib import Path

from ssl_video.apps.index_update import Work, index_videos
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.search import load_search_model
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.figures import figure_to
from ssl_video.video.reader import read_frames


def draw(out: Path) -> None:
    with figure_to(out, 9, 6) as figure:
        axes = figure.subplots(3, 5)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            manifest = synthesize(root / "videos", SyntheticConfig(train=64, test=3, frames=32))
            videos = scanned(load_splits(str(manifest)).train)
            model = load_search_model(None, spec="random:r2plus1d_4")
            index = index_videos(videos, model, root / "index", IndexOptions(clips=2), Work(workers=0))
            for row, video in zip(axes, videos.videos[8:11], strict=True):
                shown = [(video.path, 0.5, "query")]
                shown += [(n.path, n.start_s, f"{n.score:.2f}") for n in index.search(video, k=4)]
                for ax, (path, start_s, title) in zip(row, shown, strict=True):
                    ax.imshow(read_frames(path, [round(start_s * 25)])[0])
                    ax.set_title(title)
                    ax.set_axis_off()
