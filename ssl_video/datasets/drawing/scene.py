"""Scenes: shapes that move over a textured background, under a camera that drifts, drawn with exact instance masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ssl_video.datasets.drawing.motions import CLIPS, SEQUENCES, Path, between_walls, wander
from ssl_video.datasets.drawing.textures import sprite, texture

CHUNK_PIXELS = 1 << 16
"""Pixels of a video that are drawn at a time: the intermediate floats stay in the processor's cache."""


@dataclass(frozen=True)
class Scene:
    """A drawn video: frames (T, H, W, 3) and masks (T, H, W), both uint8, and the phase (T,) of instance 1.

    A mask holds 0 for the background and n for what is seen of instance n; instances with higher numbers are in front.
    ``notes`` are further arrays by their names, for the annotations.
    """

    frames_THWC: np.ndarray
    masks_THW: np.ndarray
    phase_T: np.ndarray
    label: str
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Sprite:
    """A shape, (4, P, P) as ``textures.sprite`` draws it, and its path."""

    patch_CPP: np.ndarray
    path: Path


def clip(rng: np.random.Generator, label: str, size: int, frames: int, sprites: int | None) -> Scene:
    """One to three shapes (or ``sprites``) that all move in the way of the class ``label``, each at its own phase."""
    background = _background(rng, size, frames)
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])) if sprites is None else sprites
    radii = np.exp(rng.uniform(np.log(8), np.log(15), count)) * size / 72
    shapes = [Sprite(sprite(rng, r), _turned(rng, CLIPS[label](rng, frames, size))) for r in radii]
    return render(background, shapes, size, label)


def sequence(rng: np.random.Generator, label: str, size: int, frames: int) -> Scene:
    """One shape that passes once through the action ``label``."""
    background = _background(rng, size, frames)
    shape = sprite(rng, rng.uniform(0.13, 0.18) * size)
    return render(background, [Sprite(shape, _turned(rng, SEQUENCES[label](rng, frames, size)))], size, label)


def track(rng: np.random.Generator, label: str, size: int, frames: int, sprites: int | None) -> Scene:
    """Three to five large shapes (or ``sprites``) that wander; each but the first meets the one before."""
    background = _background(rng, size, frames)
    count = int(rng.integers(3, 6)) if sprites is None else sprites
    radii = rng.uniform(0.09, 0.16, count) * size
    tries = [_meeting_paths(rng, radii, size, frames) for _ in range(30)]
    paths = max(tries, key=lambda paths: _gap(paths, radii, 0))  # who is hidden in frame 0 could not be followed
    shapes = [Sprite(sprite(rng, r), _turned(rng, p)) for r, p in zip(radii, paths, strict=True)]
    return render(background, shapes, size, label)


def _meeting_paths(rng: np.random.Generator, radii: np.ndarray, size: int, frames: int) -> list[Path]:
    paths: list[Path] = []
    for radius in radii:
        path = wander(rng, frames, size)
        at, low, high = int(rng.integers(frames // 3, frames)), radius, size - 1 - radius
        spot = rng.uniform(low, high, 2) if not paths else paths[-1].centre_T2[at] + rng.uniform(-0.3, 0.3, 2) * radius
        centre_T2 = between_walls(path.centre_T2 - path.centre_T2[at] + np.clip(spot, low, high), low, high)
        paths.append(Path(centre_T2, path.angle_T, path.scale_T2, path.phase_T))
    return paths


def _gap(paths: Sequence[Path], radii: np.ndarray, t: int) -> float:
    """The smallest distance between two shapes in frame ``t``, relative to the sum of their radii."""
    places_N2 = np.stack([p.centre_T2[t] for p in paths])
    distance_NN = np.linalg.norm(places_N2[:, None] - places_N2, axis=-1) / (radii[:, None] + radii)
    return float(np.min(distance_NN + np.diag(np.full(len(radii), np.inf))))


def _turned(rng: np.random.Generator, path: Path) -> Path:
    return Path(path.centre_T2, path.angle_T + rng.uniform(0, 2 * np.pi), path.scale_T2, path.phase_T)


@dataclass(frozen=True)
class Background:
    """A picture that is larger than the frame on all sides, and where the camera looks, in pixels from its middle."""

    picture_CHW: np.ndarray
    camera_T2: np.ndarray


def _background(rng: np.random.Generator, size: int, frames: int) -> Background:
    """A texture of low contrast, and a slow drift of the camera by a pixel or so (of 56)."""
    reach = 1.25 * size / 56
    picture_CHW = texture(rng, size + 2 * (int(np.ceil(reach)) + 1), size / 72)
    picture_CHW = 0.6 * picture_CHW.mean((1, 2), keepdims=True) + 0.4 * picture_CHW
    rate, start = rng.uniform(0.003, 0.012, 2), rng.uniform(0, 2 * np.pi, 2)
    camera_T2 = rng.uniform(0, reach) * np.sin(2 * np.pi * rate * np.arange(frames)[:, None] + start)
    return Background(picture_CHW, camera_T2)


def render(background: Background, shapes: Sequence[Sprite], size: int, label: str) -> Scene:
    """Draw the shapes over the background, the first one at the back."""
    frames = len(background.camera_T2)
    frames_THWC = np.empty((frames, size, size, 3), np.uint8)
    masks_THW = np.zeros((frames, size, size), np.uint8)
    step = max(1, CHUNK_PIXELS // size**2)
    for start in range(0, frames, step):
        part = slice(start, min(start + step, frames))
        canvas_TCHW = _draw_background(background, size, part)
        for number, shape in enumerate(shapes, 1):
            _draw_shape(canvas_TCHW, masks_THW[part], shape, number, part, background.camera_T2[part])
        canvas_TCHW += 0.5
        frames_THWC[part] = np.moveaxis(canvas_TCHW.astype(np.uint8), 1, -1)
    return Scene(frames_THWC, masks_THW, shapes[0].path.phase_T.astype(np.float32), label)


def _draw_background(background: Background, size: int, part: slice) -> np.ndarray:
    """(T, 3, size, size) float32, interpolated linearly between pixels."""
    picture_CHW = background.picture_CHW
    place_T2 = (picture_CHW.shape[-1] - size) / 2 + background.camera_T2[part]
    corner_T2 = np.floor(place_T2).astype(int)
    share_T2 = (place_T2 - corner_T2).astype(np.float32)
    canvas_TCHW = np.empty((len(place_T2), 3, size, size), np.float32)
    for out_CHW, (x, y), (fx, fy) in zip(canvas_TCHW, corner_T2, share_T2, strict=True):
        rows = picture_CHW[:, y : y + size + 1, x : x + size + 1]
        rows = rows[..., :-1] + fx * (rows[..., 1:] - rows[..., :-1])
        np.add(rows[:, :-1], fy * (rows[:, 1:] - rows[:, :-1]), out=out_CHW)
    return canvas_TCHW


def _draw_shape(
    canvas_TCHW: np.ndarray, masks_THW: np.ndarray, shape: Sprite, number: int, part: slice, camera_T2: np.ndarray
) -> None:
    """Draw one shape over some frames, in the smallest square box that holds it in all of them."""
    path, patch = shape.path, shape.patch_CPP
    centre_T2, scale_T2 = path.centre_T2[part] - camera_T2, path.scale_T2[part]
    box, size = int(np.ceil(patch.shape[-1] * scale_T2.max())) + 1, canvas_TCHW.shape[-1]
    corner_T2 = np.round(centre_T2 - (box - 1) / 2).astype(int)
    offset_TB2 = corner_T2[:, None] + np.arange(box)[None, :, None] - centre_T2[:, None]
    colour_CTBB, alpha_TBB = _sampled(patch, offset_TB2, path.angle_T[part], scale_T2)
    rest_TBB, covered_TBB = 1 - alpha_TBB, alpha_TBB > 0.5
    for t, (x, y) in enumerate(corner_T2.tolist()):
        rows, columns = slice(max(y, 0), max(min(y + box, size), 0)), slice(max(x, 0), max(min(x + box, size), 0))
        inside = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        under_CHW = canvas_TCHW[t, :, rows, columns]
        under_CHW *= rest_TBB[t][inside]
        under_CHW += colour_CTBB[(slice(None), t, *inside)]
        np.copyto(masks_THW[t, rows, columns], number, where=covered_TBB[t][inside])


def _sampled(
    patch_CPP: np.ndarray, offset_TB2: np.ndarray, angle_T: np.ndarray, scale_T2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour (3, T, B, B) and alpha (T, B, B) of the patch, turned and then scaled, interpolated linearly.

    ``offset_TB2`` are the x and the y of a box's columns and rows, from the patch's middle.
    """
    side = patch_CPP.shape[-1]
    x_TB, y_TB = np.moveaxis((offset_TB2 / scale_T2[:, None]).astype(np.float32), -1, 0)
    cos_T, sin_T = (f(angle_T).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    middle = np.float32((side - 1) / 2)
    u_TBB = (cos_T * x_TB)[:, None, :] + (sin_T * y_TB + middle)[:, :, None]
    v_TBB = (cos_T * y_TB + middle)[:, :, None] - (sin_T * x_TB)[:, None, :]
    last = np.float32(side - 1.001)
    np.clip(u_TBB, 0, last, out=u_TBB)  # what is outside takes the border, which is transparent
    np.clip(v_TBB, 0, last, out=v_TBB)
    left, top = u_TBB.astype(np.intp), v_TBB.astype(np.intp)
    u_TBB -= left
    v_TBB -= top
    corner = top * side + left
    taps = (corner, corner + 1, corner + side, corner + side + 1)
    out_CTBB = np.empty((4, *corner.shape), np.float32)
    for channel, values in enumerate(patch_CPP.reshape(4, -1)):
        a, b, c, d = (values.take(tap) for tap in taps)
        upper, lower = a + u_TBB * (b - a), c + u_TBB * (d - c)
        out_CTBB[channel] = upper + v_TBB * (lower - upper)
    return out_CTBB[:3], out_CTBB[3]
