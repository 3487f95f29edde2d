"""A drawn video, its two atlases with paint on them, and the frames that show it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from ssl_video.apps.options import RepresentOptions
from ssl_video.apps.represent import represent
from ssl_video.datasets import synthetic
from ssl_video.figures import figure_to

NUMBER, FRAMES, EVERY = 4, 32, 2


def draw(out: Path) -> None:
    scene = synthetic.draw("tracks", NUMBER, frames=FRAMES * EVERY, sprites=1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        for t, frame_HWC in enumerate(scene.frames_THWC[::EVERY]):
            Image.fromarray(frame_HWC).save(folder / "frames" / f"{t:05d}.png")
        Image.fromarray((scene.masks_THW[0] > 0).astype(np.uint8)).save(folder / "mask.png")
        options = RepresentOptions(frames=FRAMES, size=128, steps=1200)
        learned = represent(folder / "frames", folder / "out", options, mask=folder / "mask.png")
        paintings = {name: _painted(learned.folder / f"{name}.png") for name in ("foreground", "background")}
        edited = list(learned.edited(paintings))
        atlases = [np.array(Image.open(path)) for path in paintings.values()]
    with figure_to(out, 11, 4.2) as figure:
        grid = figure.add_gridspec(2, 6)
        for column, t in enumerate(range(0, FRAMES, 10)):
            for row, (what, frame_HWC) in enumerate((("frame", scene.frames_THWC[t * EVERY]), ("edited", edited[t]))):
                ax = figure.add_subplot(grid[row, column])
                ax.imshow(frame_HWC)
                ax.set_title(f"{what} {t}")
                ax.set_axis_off()
        for row, (name, atlas_HWC) in enumerate(zip(paintings, atlases, strict=True)):
            ax = figure.add_subplot(grid[row, 4:])
            ax.imshow(_on_gray(atlas_HWC))
            ax.set_title(f"{name}.png, painted")
            ax.set_axis_off()


def _painted(path: Path) -> Path:
    """The picture with a white cross in its middle; on the background a black disc."""
    with Image.open(path) as picture:
        painted = picture.copy()
    pen, (w, h) = ImageDraw.Draw(painted), painted.size
    if path.stem == "foreground":
        for box in ((0.25, 0.44, 0.75, 0.56), (0.44, 0.25, 0.56, 0.75)):
            pen.rectangle([side * n for side, n in zip(box, (w, h, w, h), strict=True)], (255, 255, 255, 255))
    else:
        pen.ellipse([0.1 * w, 0.1 * h, 0.4 * w, 0.4 * h], (0, 0, 0, 255))
    painted.save(path.with_name(f"{path.stem}_painted.png"))
    return path.with_name(f"{path.stem}_painted.png")


def _on_gray(picture_HWC: np.ndarray) -> np.ndarray:
    alpha = picture_HWC[..., 3:] / 255
    return (picture_HWC[..., :3] * alpha + 160 * (1 - alpha)).astype(np.uint8)
