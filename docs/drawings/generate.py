"""Films by a network of drawn prompts: from texts, from a picture, around what is given, and an edit.

It shows what a run can that has learned captions and all tasks (``--left RUN``, see docs/generate.md).
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import ssl_video as sv
from drawings import draw_strip
from ssl_video.apps.generate_folder import liveliest_row
from ssl_video.apps.options import GenerateOptions
from ssl_video.datasets.synthetic import draw as draw_scene
from ssl_video.datasets.synthetic import drawn_prompt
from ssl_video.figures import figure_to
from ssl_video.model import Model

SIZE, SHOWN = 32, 8
GIVEN = 100_000
"""A drawn video that no training has seen."""
TEXTS = ("a red circle drifts left on a dark background", "a yellow square drifts up on a light background")
Row = tuple[str, np.ndarray]


def draw(out: Path, left: str) -> None:
    with TemporaryDirectory() as name:
        rows = list(rows_of(sv.load_model(left), Path(name)))
    with figure_to(out, 9, 0.95 * len(rows)) as figure:
        grid = figure.subplots(len(rows), 2, width_ratios=(SHOWN, 1), squeeze=False)
        for (strip, slices), (label, clip_THWC) in zip(grid, rows, strict=True):
            shown_THWC = clip_THWC[:: len(clip_THWC) // SHOWN][:SHOWN]
            apart_THWC = np.pad(shown_THWC, [(0, 0), (0, 0), (0, 2), (0, 0)], constant_values=255)
            draw_strip(strip, np.concatenate(list(apart_THWC), 1), label)
            draw_strip(slices, clip_THWC[:, liveliest_row(clip_THWC)].repeat(2, 0), "")


def rows_of(model: Model, folder: Path) -> Iterator[Row]:
    """Label and frames of each row."""

    def drawn(**given) -> np.ndarray:
        number = len(list(folder.glob("film*")))
        guidance = 2.0 if "prompt" in given else 1.0
        options = GenerateOptions(seed=3, lossless=True, edit=given.pop("edit", None), guidance=guidance)
        done = sv.generate(model, folder / f"film{number}", options=options, progress=False, **given)
        return np.load(done.folder / "000.npy")

    stride = model.view.stride
    real_THWC = draw_scene("prompts", GIVEN, size=SIZE).frames_THWC[: 16 * stride : stride]
    (folder / "video").mkdir()
    for t, frame_HWC in enumerate(real_THWC):
        for n in range(stride):
            Image.fromarray(frame_HWC).save(folder / "video" / f"{t * stride + n:05d}.png")
    hole_HW = np.zeros((SIZE, SIZE), np.uint8)
    hole_HW[:, SIZE // 2 :] = 255
    Image.fromarray(hole_HW).save(folder / "mask.png")
    image, video, mask = folder / "video" / "00000.png", folder / "video", folder / "mask.png"
    for text in TEXTS:
        yield text.replace(" on ", "\non "), drawn(prompt=text)
    told = drawn_prompt(GIVEN).caption
    yield f"a drawn video:\n{told}".replace(" on ", "\non "), real_THWC
    yield "from its first frame alone", drawn(image=image)
    yield "from that and its text", drawn(image=image, prompt=told)
    yield "its right half filled in", drawn(video=video, mask=mask, prompt=told)
    yield "its right half moves", drawn(image=image, cinemagraph=mask, prompt=told)
    yield "edited, strength 0.6", drawn(video=video, edit=0.6, prompt=told)
    yield "edited to a yellow shape", drawn(video=video, edit=0.95, prompt=recoloured(told, "yellow"))


def recoloured(text: str, colour: str) -> str:
    """The same text of a shape of another colour: "a red circle drifts left" begins with it."""
    article, _, *rest = text.split()
    return " ".join((article, colour, *rest))
