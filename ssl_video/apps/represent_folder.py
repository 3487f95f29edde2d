"""The folder of a learned video.

``network.safetensors``, written last, is the network with a header that says of what it is; ``reconstruction.mp4``
shows the video beside what the network makes of it; ``report.json`` has the numbers. Of an atlas there are also
``foreground.png``, with its opacity, and ``background.png``, to be painted on, ``masks/NUMBER.png``, and
``overlay.mp4`` with these masks over the video. ``checkpoint.pt`` is there until all that is written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_video.apps.film import Shot, film
from ssl_video.apps.paint import paint_mask, write_mask
from ssl_video.errors import UserError
from ssl_video.files import check_not_over, clear_dead, is_empty, write_text, written_aside
from ssl_video.implicit.atlas import LayeredAtlas
from ssl_video.implicit.coordinates import CoordinateNetwork, Encoding
from ssl_video.implicit.footage import Footage
from ssl_video.implicit.motion import Start
from ssl_video.implicit.rendering import LAYERS, SEEN, Box, atlas_picture, boxes_of, frames_of, opacities_of
from ssl_video.readback import of_type, reading
from ssl_video.tensors import UNREADABLE, load_state, load_tensors, read_header, save_state, save_tensors
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import opened_picture
from ssl_video.video.writer import TO_LOOK_AT, check_writable, write_video

FORM = "represented video"
ANEW = "take a whole copy of it, or learn the video again"


@dataclass(frozen=True)
class Learned:
    """A video as a network.

    ``size`` is frames, rows and columns as learned, ``rate`` in frames per second. ``numbers`` are those of
    report.json. ``boxes`` are the parts of the two atlases that their pictures show, empty for coordinates.
    """

    folder: Path
    kind: str
    network: nn.Module
    size: tuple[int, int, int]
    rate: Fraction
    numbers: Mapping[str, float]
    boxes: Sequence[Box]

    def film_size(self, side: int | None) -> tuple[int, int]:
        """(h, w) with a longer side of so many pixels, by default as learned."""
        height, width = self.size[1:]
        scale = 1.0 if side is None else side / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def frames(self, count: int | None = None, side: int | None = None) -> Iterator[np.ndarray]:
        """(h, w, 3) uint8 frames: ``count`` over the time of the video, their longer side of ``side`` pixels."""
        return self.edited({}, count, side)

    def edited(
        self, paintings: Mapping[str, Path | str], count: int | None = None, side: int | None = None
    ) -> Iterator[np.ndarray]:
        """``frames`` with what is painted on the atlases.

        Args:
            paintings: foreground or background, to a picture of it that was painted over. What differs from the picture
                in the folder counts, as opaque as it was painted.
            count: of the frames.
            side: of the frames.

        Raises:
            UserError: if there is no atlas, or a picture cannot be read, has another size or no change.
        """
        times = np.linspace(0, self.size[0] - 1, count or self.size[0]).tolist()
        edits = {LAYERS.index(name): self._edit(name, Path(path)) for name, path in paintings.items()}
        return frames_of(self.network, self.size[1:], times, self.film_size(side), edits)

    def _edit(self, layer: str, path: Path) -> tuple[Tensor, Box]:
        if not self.boxes:
            raise UserError(
                f"{self.folder} holds coordinates, which have nothing to paint on; learn the video by --kind atlas."
            )
        before_HWC, painted_HWC = read_rgba(self.folder / f"{layer}.png"), read_rgba(path)
        if painted_HWC.shape != before_HWC.shape:
            (h, w), (h0, w0) = painted_HWC.shape[:2], before_HWC.shape[:2]
            raise UserError(
                f"{path} has {w}x{h} pixels, but {layer}.png of {self.folder} has {w0}x{h0}; paint on that one."
            )
        changed_HW = (painted_HWC != before_HWC).any(-1)
        if not changed_HW.any():
            raise UserError(f"{path} is {layer}.png of {self.folder} as it was; paint on it first.")
        paint_HWC = torch.from_numpy(painted_HWC * changed_HW[..., None]).float() / 255
        return paint_HWC, self.boxes[LAYERS.index(layer)]


def read_rgba(path: Path) -> np.ndarray:
    """(H, W, 4) uint8; a picture without opacity is opaque. Raises UserError."""
    try:
        with opened_picture(path) as picture:
            return np.array(picture.convert("RGBA"))
    except VideoError as error:
        raise UserError(f"{path} cannot be used: {error}.") from None


def write_film(
    learned: Learned,
    out: Path,
    paintings: Mapping[str, Path] | None = None,
    count: int | None = None,
    side: int | None = None,
) -> int:
    """Write ``Learned.edited`` as a video, over the time that the learned frames took; how many frames it has.

    Raises:
        UserError: as ``Learned.edited``, or if ``out`` is no name of a video or one of the folder's own files.
    """
    check_writable(out)
    check_not_over(out, learned.folder / "reconstruction.mp4", learned.folder / "overlay.mp4")
    frames = count or learned.size[0]
    rate = (learned.rate * Fraction(frames, learned.size[0])).limit_denominator(1001)
    return write_video(out, learned.edited(paintings or {}, count, side), rate, TO_LOOK_AT)


def network_of(kind: str, size: tuple[int, int, int], encoding: str, start: Start | None = None) -> nn.Module:
    """An untrained network for a video of so many frames, rows and columns."""
    if kind == "atlas":
        return LayeredAtlas(size, start)
    return CoordinateNetwork(size, cast(Encoding, encoding))


@dataclass(frozen=True)
class Folder:
    """Where a learned video lies, and the only names of its files."""

    path: Path

    @property
    def network(self) -> Path:
        """The file that makes the folder whole."""
        return self.path / "network.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state of a training."""
        return self.path / "checkpoint.pt"

    def finished(self, noted: Mapping[str, Any]) -> bool:
        """True if what was noted so is there whole. Raises UserError if something else is."""
        if not self.network.is_file():
            return False
        before = (read_header(self.network) or {}).get("noted")
        if before != json.loads(json.dumps(noted)):
            raise UserError(f"{self.path} holds {_differs(before, noted)}; choose another --out.")
        self.checkpoint.unlink(missing_ok=True)
        return True

    def check(self, noted: Mapping[str, Any]) -> None:
        """Raise UserError unless the folder is new or empty, or holds a training that was noted so.

        What dead processes began to write there is removed.
        """
        for folder in (self.path, self.path / "masks"):
            clear_dead(folder)
        if not self.checkpoint.is_file() and not is_empty(self.path):
            raise UserError(f"{self.path} exists and is not empty; choose another --out.")
        state = self.state()
        if state is not None and state["noted"] != json.loads(json.dumps(noted)):
            raise UserError(f"{self.path} holds {_differs(state['noted'], noted)}; choose another --out.")

    def state(self) -> dict[str, Any] | None:
        """What ``save`` wrote, or None. Raises UserError if it is damaged."""
        if not self.checkpoint.is_file():
            return None
        try:
            state = load_state(self.checkpoint)
            return of_type(state, dict) | {"noted": of_type(state["noted"], dict)}
        except UNREADABLE:
            raise UserError(f"{self.checkpoint} is damaged; remove {self.path}, and learn the video again.") from None

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state of a training, aside, then renamed."""
        save_state(self.checkpoint, dict(state) | {"noted": json.loads(json.dumps(state["noted"]))})

    def load(self) -> Learned:
        """What lies here. Raises UserError if it is no learned video, or damaged."""
        if not self.network.is_file():
            begun = " whose learning has not ended" if self.checkpoint.is_file() else ""
            raise UserError(
                f"{self.path} is no folder of a learned video{begun}; 'ssl-video represent VIDEO' makes one."
            )
        tensors, header = load_tensors(self.network)
        with reading(self.network, ANEW):
            if header.get("form") != FORM:
                raise ValueError(f"it is no {FORM}")
            frames, rows, columns = (of_type(n, int) for n in header["size"])
            network = network_of(header["kind"], (frames, rows, columns), header["encoding"], _blank(tensors))
            boxes = [tuple(float(of_type(n, int, float)) for n in box) for box in header["boxes"]]
            numbers, rate = of_type(header["numbers"], dict), Fraction(header["rate"])
        try:
            network.load_state_dict(tensors)
        except RuntimeError:
            raise UserError(f"{self.network} is damaged (its tensors do not fit); {ANEW}.") from None
        size = frames, rows, columns
        return Learned(self.path, header["kind"], network.eval(), size, rate, numbers, cast(list[Box], boxes))


def _blank(tensors: Mapping[str, Tensor]) -> Start | None:
    """Where an atlas began, which its file holds."""
    names = ("front_T2", "back_T23", "middle_2", "scales_2")
    return Start(*(tensors[name].numpy() for name in names)) if names[0] in tensors else None


def _differs(before: Any, noted: Mapping[str, Any]) -> str:
    words = {"content": "another video", "mask": "another --mask"}
    for name, value in noted.items():
        if not isinstance(before, Mapping) or before.get(name) != value:
            return f"a video that was learned from {words.get(name, 'another --' + name.replace('_', '-'))}"
    return "another learned video"


def written(
    folder: Folder,
    network: nn.Module,
    footage: Footage,
    numbers: Mapping[str, float],
    noted: Mapping[str, Any],
    rate: Fraction,
) -> Learned:
    """Write all files of the folder, the network last, and remove the checkpoint."""
    size, boxes = footage.size, []
    frames_THWC, times = footage.frames_THWC.numpy(), range(footage.size[0])
    shown = frames_of(network, size[1:], times, size[1:])
    shots = (
        Shot((frame_HWC, shown_HWC), (float(t / rate),))
        for t, frame_HWC, shown_HWC in zip(times, frames_THWC, shown, strict=True)
    )
    write_video(folder.path / "reconstruction.mp4", film(shots, ("video", "network")), rate, TO_LOOK_AT)
    if isinstance(network, LayeredAtlas):
        boxes = boxes_of(network, size)
        for layer, box in enumerate(boxes):
            with written_aside(folder.path / f"{LAYERS[layer]}.png") as aside:
                Image.fromarray(atlas_picture(network, layer, box, size)).save(aside)
        write_video(folder.path / "overlay.mp4", _masked(folder, network, footage, rate), rate, TO_LOOK_AT)
    write_text(folder.path / "report.json", json.dumps(dict(numbers), indent=1) + "\n")
    header = {
        **{"form": FORM, "kind": noted["kind"], "encoding": noted["encoding"], "size": list(size), "rate": str(rate)},
        **{"boxes": [list(box) for box in boxes], "numbers": dict(numbers), "noted": dict(noted)},
    }
    save_tensors(folder.network, network.state_dict(), header)
    folder.checkpoint.unlink(missing_ok=True)
    return Learned(folder.path, noted["kind"], network, size, rate, numbers, boxes)


def _masked(folder: Folder, atlas: LayeredAtlas, footage: Footage, rate: Fraction) -> Iterator[np.ndarray]:
    """Frames with the mask that the opacity gives, each of which is written."""
    size, times = footage.size[1:], range(footage.size[0])

    def shots() -> Iterator[Shot]:
        for t, opacity_HW in zip(times, opacities_of(atlas, size, times, size), strict=True):
            mask_HW = (opacity_HW > SEEN).astype(np.uint8)
            write_mask(folder.path / "masks" / f"{t:05d}.png", mask_HW)
            yield Shot((paint_mask(footage.frames_THWC[t].numpy(), mask_HW),), (float(t / rate),))

    return film(shots(), ("mask",))
