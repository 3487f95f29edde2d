"""A local web page on a run: drop a video and see its neighbours, its speediness, its activation map and more.

Nothing is computed here; the page shows what the other applications write. It needs gradio, an extra.
"""

import codecs
import html
import importlib.util
import os
import signal
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_video.apps import align, explain_cam, speediness_curve, track
from ssl_video.apps.index_folder import Stored
from ssl_video.apps.search import Question, ask
from ssl_video.apps.search_report import STYLE, escaped, figures
from ssl_video.capabilities import HeatMaps, SpeedLogits
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.eval.dense import network_features
from ssl_video.eval.propagation import Propagation
from ssl_video.model import Model
from ssl_video.video.info import Problem, VideoError
from ssl_video.video.probe import scan

TRACKING = Propagation.presets["crw-davis-240"]
NO_INDEX = "No index was given; start the page with one that this run made: ssl-video app RUN INDEX."


@dataclass(frozen=True)
class Limits:
    """The largest and the longest video that is taken."""

    megabytes: float = 200.0
    minutes: float = 5.0


def check_gradio() -> None:
    """Raise UserError without gradio."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs gradio, which is not installed: pip install 'ssl-video[app]'.")


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
    if size > 1e6 * limits.megabytes:
        raise UserError(
            f"{name} has {size / 1e6:.1f} MB, and at most {limits.megabytes:g} MB are taken; cut it, or start the page "
            "with a larger --max-megabytes."
        )
    with Path(path).open("rb") as file:
        start = file.read(512)
    if start and is_text(start):
        raise UserError(f"{name} is no video: it holds text, whatever its name says.")
    info = dict(scan([path], 1))[path]
    if isinstance(info, Problem):
        raise UserError(f"{name} cannot be used as a video: {info.reason}.")
    if info.duration_s > 60 * limits.minutes:
        raise UserError(
            f"{name} lasts {info.duration_s / 60:.1f} minutes, and at most {limits.minutes:g} are taken; cut it, or "
            "start the page with a larger --max-minutes."
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


class Desk:
    """What the page can do with a model, an index and uploaded files; every result is a file in ``folder``.

    All of its methods raise UserError or VideoError.
    """

    def __init__(self, model: Model, stored: Stored | None, limits: Limits, folder: Path):
        self.model, self.stored, self.limits, self.folder = model, stored, limits, folder

    def refusals(self) -> dict[str, str]:
        """Why the model cannot do what a tab is for, in one sentence; empty where it can."""
        model = self.model
        return {
            "neighbours": NO_INDEX if self.stored is None else "",
            "speediness": refusal(lambda: model.need(SpeedLogits)),
            "cam": "" if model.classifier is not None else refusal(lambda: model.need(HeatMaps)),
            "track": refusal(lambda: network_features(model, None, TRACKING.side, TRACKING.square)),
        }

    def about(self, path: str | None) -> str:
        """HTML: what was dropped."""
        video = admitted(path, self.limits)
        i = video.info
        return (
            f"<p>{escaped(Path(video.path).name)}: {i.frames} frames of {i.width}x{i.height}, {i.duration_s:.2f} s.</p>"
        )

    def neighbours(self, path: str | None) -> str:
        """HTML: the nearest videos of the index, which play."""
        if self.stored is None:
            raise UserError(NO_INDEX)
        video = admitted(path, self.limits)
        found = ask(self.stored, self.model, Question(video))
        return f"<style>#neighbours {{ {STYLE} }}</style><section>{figures(found)}</section>"

    def speediness(self, path: str | None) -> tuple[str, str]:
        """A film with the curve below it, and a picture of the curve."""
        video = admitted(path, self.limits)
        step = max(1, self.model.view.span(video) // 8)
        curves = speediness_curve.speediness_curves(self.model, video, step=step)
        film, picture = self._files("speediness")
        speediness_curve.write_overlay(film, video, curves.normal_XN[0])
        speediness_curve.draw_speediness(picture, curves, video.info.fps, plain(video))
        return str(film), str(picture)

    def cam(self, path: str | None) -> tuple[str, str]:
        """A film beside its activation maps, and a sheet of them."""
        video = admitted(path, self.limits)
        head = explain_cam.head_of(self.model, video)
        step = max(1, self.model.view.span(video) // 8)
        paint = explain_cam.Painter(explain_cam.activation_maps(self.model, video, head, step=step), None)
        film, picture = self._files("cam")
        explain_cam.write_film(film, video, paint)
        explain_cam.draw_sheet(picture, video, paint, head, 6, plain(video))
        return str(film), str(picture)

    def first_frame(self, path: str | None) -> Any:
        """frame_HWC to choose a point on."""
        return track.first_frame(Path(admitted(path, self.limits).path))

    def track(self, path: str | None, point: tuple[float, float]) -> tuple[str, str]:
        """A film with the point in every frame, and HTML that says how far it was followed."""
        video = admitted(path, self.limits)
        features = network_features(self.model, None, TRACKING.side, TRACKING.square)
        points_J2 = track.checked_points([point], track.first_frame(Path(video.path)))
        film, _ = self._files("track")
        done = track.track_points(Path(video.path), points_J2, features, TRACKING.affinity, film.parent)
        (x, y), seen = point, done.last_seen[1]
        said = f"<p>The point {x:g},{y:g} was last seen in frame {seen}; the last is {done.frames - 1}.</p>"
        return str(film.parent / "overlay.mp4"), said

    def align(self, path_a: str | None, path_b: str | None) -> tuple[str, str]:
        """A film of both videos in step, and a picture of the match."""
        a, b = admitted(path_a, self.limits), admitted(path_b, self.limits)
        match = align.match_videos(self.model, a, b)
        film, picture = self._files("aligned")
        align.write_film(film, a, b, match)
        align.draw_match(picture, match, (plain(a), plain(b)))
        return str(film), str(picture)

    def _files(self, name: str) -> tuple[Path, Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return folder / f"{name}.mp4", folder / f"{name}.png"


def plain(video: Video) -> str:
    """The name of a file for a picture, where a dollar would begin a formula."""
    return Path(video.path).name.replace("$", "\\$")


def page_of(desk: Desk) -> Any:
    """The page: a place to drop a video, and below it a tab for each thing to do with it. Returns gradio's Blocks."""
    import gradio as gr  # pyright: ignore[reportMissingImports]

    def guarded(do: Callable[..., Any], *given: Any) -> Any:
        try:
            return do(*given)
        except (UserError, VideoError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    def about(path: str | None) -> str:
        return guarded(desk.about, path)

    def neighbours(path: str | None) -> str:
        return guarded(desk.neighbours, path)

    def speediness(path: str | None) -> tuple[str, str]:
        return guarded(desk.speediness, path)

    def cam(path: str | None) -> tuple[str, str]:
        return guarded(desk.cam, path)

    def first_frame(path: str | None) -> Any:
        return guarded(desk.first_frame, path)

    def follow(path: str | None, event: gr.SelectData) -> tuple[str, str]:
        return guarded(desk.track, path, tuple(event.index))

    def aligned(path_a: str | None, path_b: str | None) -> tuple[str, str]:
        return guarded(desk.align, path_a, path_b)

    cannot = desk.refusals()
    still: Any = {"format": "png", "buttons": ["download", "fullscreen"]}  # no button that shares it with a website
    with gr.Blocks(title="ssl-video", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f"<h1>ssl-video: {escaped(desk.model.name)}</h1>")
        dropped = gr.File(label="A video: drop it here", type="filepath", elem_id="video")
        said = gr.HTML()
        chain = dropped.upload(about, dropped, said, api_visibility="private")

        with gr.Tab("Neighbours"):
            if not refused(gr, cannot["neighbours"]):
                found = gr.HTML(elem_id="neighbours")
                chain = chain.success(neighbours, dropped, found, api_visibility="private")
        for name, label, do in (("speediness", "Speediness", speediness), ("cam", "Where it looks", cam)):
            with gr.Tab(label):
                if not refused(gr, cannot[name]):
                    button = gr.Button("Show", elem_id=f"show-{name}")
                    shown = [gr.Video(label="Play or drag"), gr.Image(label=label, **still)]
                    button.click(do, dropped, shown, concurrency_id="network", api_visibility="private")
        with gr.Tab("Track a point"):
            if not refused(gr, cannot["track"]):
                gr.HTML("<p>Click a point of the first frame.</p>")
                frame = gr.Image(label="First frame", interactive=False, elem_id="frame", **still)
                followed = [gr.Video(label="The point"), gr.HTML()]
                chain.success(first_frame, dropped, frame, api_visibility="private")
                frame.select(follow, dropped, followed, concurrency_id="network", api_visibility="private")
        with gr.Tab("Align"):
            other = gr.File(label="Another video, which follows the first", type="filepath", elem_id="other")
            button = gr.Button("Align", elem_id="show-align")
            shown = [gr.Video(label="In step"), gr.Image(label="Similarity of frames and the match", **still)]
            button.click(aligned, [dropped, other], shown, concurrency_id="network", api_visibility="private")
    return page


def refused(gr: Any, sentence: str) -> bool:
    """Put the sentence on the tab, if there is one."""
    if sentence:
        gr.HTML(f'<p class="cannot">{escaped(sentence)}</p>')
    return bool(sentence)


def serve(model: Model, stored: Stored | None, limits: Limits, host: str, port: int) -> None:
    """Serve the page until it is interrupted. Uploads and results lie in a folder that goes with it.

    Raises:
        UserError: without gradio, or if the address cannot be had.
    """
    check_gradio()
    with tempfile.TemporaryDirectory(prefix="ssl-video-app-") as folder:
        # read when gradio is imported: no analytics, nothing fetched, its files in our folder
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, HF_HUB_OFFLINE="1")
        page = page_of(Desk(model, stored, limits, Path(folder)))
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port or None,
                share=False,
                ssr_mode=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=int(1e6 * limits.megabytes),
                allowed_paths=[],
                footer_links=["settings"],
            )
        except OSError:
            where = f"port {port}" if port else "a port from 7860 on"
            raise UserError(f"The page cannot listen at {where} of {host}; choose another --port or --host.") from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder goes then, too
        print(f"The page is at {url}; end it with Ctrl-C.", flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
