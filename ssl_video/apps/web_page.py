"""What the local web page on a run can do with a dropped video: its neighbours, its speediness and more, as files.

Nothing is computed here; the page, laid out by ``web_layout``, shows what the other applications write.
"""

import codecs
import importlib.util
import socket
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ssl_video.apps import align, cam_maps, cam_pictures, speediness_curve, track
from ssl_video.apps.marks import Marks
from ssl_video.apps.options import CamOptions, Limits, SpeedinessOptions, TrackOptions
from ssl_video.apps.picking import Neighbour
from ssl_video.apps.search import Index
from ssl_video.apps.search_report import figures
from ssl_video.backbones.weights.packaged import in_words
from ssl_video.capabilities import HeatMaps, SpeedLogits
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError, needs
from ssl_video.eval.dense import network_features, takes_single_frames
from ssl_video.files import legible
from ssl_video.model import Model, default_model, default_name
from ssl_video.video.augment import resize_height
from ssl_video.video.info import Problem
from ssl_video.video.reader import iterate_frames
from ssl_video.video.scan import scan
from ssl_video.video.writer import TO_LOOK_AT, write_video

TRACKING = track.settings_of(TrackOptions())
PLAYED_S, PLAYED_HEIGHT = 30.0, 480
"""Of a video that is opened, so many seconds are shown, at most so many pixels high."""
NO_INDEX = "No index was given; start the page with one that this run made: ssl-video app --model RUN --index INDEX."


def check_gradio() -> None:
    """Raise UserError without gradio."""
    if importlib.util.find_spec("gradio") is None:
        raise needs("The page", "gradio", "app")


def check_address(host: str, port: int) -> None:
    """Raise UserError if no page can listen there; port 0 is the first free one, which gradio finds."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError:
        raise cannot_listen(host, port) from None


def cannot_listen(host: str, port: int) -> UserError:
    """What is said of an address that cannot be had."""
    where = f"port {port}" if port else "a port from 7860 on"
    return UserError(f"The page cannot listen at {where} of {host}; choose another --port or --host.")


def admitted(path: str | None, limits: Limits = Limits()) -> Video:
    """An uploaded file, scanned, if it is a video by its content and within the limits; its suffix does not matter.

    It is decoded in a child process, with a time limit. Text is not even tried: playlists, which name other files, are
    text.

    Raises:
        UserError: if it is not there, too large, no video or too long.
    """
    if not path:
        raise UserError("Drop a video first.")
    name = Path(path).name
    size = Path(path).stat().st_size
    if size > 1e6 * limits.max_megabytes:
        raise UserError(
            f"{name} has {size / 1e6:.1f} MB, and at most {limits.max_megabytes:g} MB are taken; cut it, or start the "
            "page with a larger --max-megabytes."
        )
    with Path(path).open("rb") as file:
        start = file.read(512)
    if start and is_text(start):
        raise UserError(f"{name} is no video: it holds text, whatever its name says.")
    info = dict(scan([path], 1))[path]
    if isinstance(info, Problem):
        raise UserError(f"{name} cannot be used as a video: {info.reason}.")
    if info.duration_s > 60 * limits.max_minutes:
        raise UserError(
            f"{name} lasts {info.duration_s / 60:.1f} minutes, and at most {limits.max_minutes:g} are taken; cut it, "
            "or start the page with a larger --max-minutes."
        )
    return Video(path, info=info)


def is_text(start: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without control characters; the last letter may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return not any(unicodedata.category(c) == "Cc" and not c.isspace() for c in text)


def refusal(attempt: Callable[[], object]) -> str:
    """The sentence of the UserError that ``attempt`` raises, or nothing."""
    try:
        attempt()
    except UserError as error:
        return str(error)
    return ""


class App:
    """What the page can do with a model, an index and uploaded files; every result is a file in ``folder``.

    All of its methods raise UserError or VideoError.
    """

    def __init__(self, model: Model, index: Index | None, limits: Limits, folder: Path):
        self.model, self.index, self.limits, self.folder = model, index, limits, folder

    def refusals(self) -> dict[str, str]:
        """Why the model cannot do what a tab is for, in one sentence; empty where it can."""
        model = self.model
        return {
            "neighbours": NO_INDEX if self.index is None else "",
            "speediness": refusal(lambda: model.need(SpeedLogits)),
            "cam": "" if model.classifier is not None else refusal(lambda: model.need(HeatMaps)),
            "track": refusal(lambda: self.tracker),
        }

    @cached_property
    def tracker(self) -> Model:
        """What points are tracked by: the model, or net:dense, which comes with the package, if it sees clips."""
        try:
            network_features(self.model, None, TRACKING.side, TRACKING.square)
            able = takes_single_frames(self.model.backbone)
        except UserError:
            able = False
        return self.model if able else default_model("dense", self.model.device, say=lambda _: None)

    def dropped(self, path: str | None) -> tuple[str, str]:
        """The video that was dropped, as a browser plays it, and HTML that says what it is."""
        video = admitted(path, self.limits)
        i = video.info
        said = Markup("<p>{}: {} frames of {}x{}, {:.2f} s.{}</p>").format(
            legible(Path(video.path).name), i.frames, i.width, i.height, i.duration_s, _first(i.duration_s)
        )
        return self._playable(video, 0.0), str(said)

    def neighbours(self, path: str | None) -> tuple[str, list[Neighbour]]:
        """HTML of the nearest videos of the index, which play; and what they are."""
        if self.index is None:
            raise UserError(NO_INDEX)
        found = self.index.search(admitted(path, self.limits))
        return figures(found), found

    def open(self, found: Sequence[Neighbour], number: int) -> tuple[str, str]:
        """A neighbour, counted from 1, as a browser plays it, and HTML that says what it is.

        What is opened is a video of the index, whatever a browser asks for.
        """
        if not 1 <= number <= len(found):
            raise UserError("Drop a video and wait for its neighbours, then choose one of them.")
        n = found[number - 1]
        video = one_video(Path(n.path))
        start = max(0.0, (n.start_s + n.end_s - PLAYED_S) / 2) if video.info.duration_s > PLAYED_S else 0.0
        said = Markup("<p>{}. {}, {:.2f} s. It matches best from {:.2f} to {:.2f} s.{}</p>").format(
            number, legible(n.path), video.info.duration_s, n.start_s, n.end_s, _first(video.info.duration_s, start)
        )
        return self._playable(video, start), str(said)

    def speediness(self, path: str | None) -> tuple[str, str]:
        """The video with the curve below it, and a figure of the curve."""
        video = admitted(path, self.limits)
        step = max(1, self.model.view.span(video) // 8)
        curves = speediness_curve.speediness_curves(self.model, video, options=SpeedinessOptions(step))
        shown, picture = self._files("speediness")
        speediness_curve.write_overlay(shown, video, curves.normal_XN[0])
        speediness_curve.draw_speediness(picture, curves, video.info.fps, Path(video.path).name)
        return str(shown), str(picture)

    def cam(self, path: str | None) -> tuple[str, str]:
        """The video beside its activation maps, and a sheet of them."""
        video = admitted(path, self.limits)
        head = cam_maps.head_of(self.model, video)
        step = max(1, self.model.view.span(video) // 8)
        paint = cam_pictures.Painter(cam_maps.activation_maps(self.model, video, head, CamOptions(step=step)), None)
        shown, picture = self._files("cam")
        cam_pictures.write_beside(shown, video, paint, head)
        cam_pictures.draw_sheet(picture, video, paint, head, 6, Path(video.path).name)
        return str(shown), str(picture)

    def first_frame(self, path: str | None) -> Any:
        """frame_HWC to choose a point on."""
        return track.first_frame(Path(admitted(path, self.limits).path))

    def track(self, path: str | None, point: tuple[float, float]) -> tuple[str, str]:
        """The video with the point in every frame, and HTML that says how far it was followed."""
        video = admitted(path, self.limits)
        folder = self._files("track")[0].parent
        done = track.track(video.path, self.tracker, Marks(points=[point]), folder)
        (x, y), seen = point, done.last_seen[1]
        said = f"<p>The point {x:g},{y:g} was last seen in frame {seen}; the last is {done.frames - 1}."
        said += f"{self.tracked_by}</p>"
        return str(folder / "overlay.mp4"), said

    @property
    def tracked_by(self) -> str:
        """Says that not the model itself tracks, where it cannot."""
        if self.tracker is self.model:
            return ""
        words = in_words("dense")
        return f" The run itself cannot, so {default_name('dense')} does: {words}, which comes with ssl-video."

    def align(self, path_a: str | None, path_b: str | None) -> tuple[str, str]:
        """Both videos in step, and a picture of the match."""
        a, b = admitted(path_a, self.limits), admitted(path_b, self.limits)
        match = align.match_videos(self.model, a, b)
        shown, picture = self._files("aligned")
        align.write_side_by_side(shown, a, b, match)
        align.draw_match(picture, match, (a, b))
        return str(shown), str(picture)

    def _playable(self, video: Video, start_s: float) -> str:
        """An mp4 of ``PLAYED_S`` seconds of a video, whatever its format."""
        shown, _ = self._files("played")
        fps = video.info.fps or 25.0

        def small() -> Iterator[np.ndarray]:
            for frame_HWC in islice(iterate_frames(video.path, round(start_s * fps)), max(1, round(PLAYED_S * fps))):
                yield resize_height(frame_HWC, min(PLAYED_HEIGHT, frame_HWC.shape[0]))

        write_video(shown, small(), Fraction(fps).limit_denominator(1001), TO_LOOK_AT)
        return str(shown)

    def _files(self, name: str) -> tuple[Path, Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return folder / f"{name}.mp4", folder / f"{name}.png"


def _first(duration_s: float, start_s: float = 0.0) -> str:
    """Says that not all of a long video is shown."""
    if duration_s <= PLAYED_S:
        return ""
    return f" Shown are {PLAYED_S:g} s" + (f", from {start_s:.2f} s on." if start_s else " of it, the first.")
