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
from pathlib import Path
from typing import Any

from ssl_video.apps import align, cam_maps, cam_pictures, speediness_curve, track
from ssl_video.apps.marks import Marks
from ssl_video.apps.options import CamOptions, Limits, SpeedinessOptions, TrackOptions
from ssl_video.apps.search import Index
from ssl_video.apps.search_report import STYLE, escaped, figures
from ssl_video.capabilities import HeatMaps, SpeedLogits
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError, needs
from ssl_video.eval.dense import network_features
from ssl_video.model import Model
from ssl_video.video.info import Problem, VideoError
from ssl_video.video.scan import scan

TRACKING = track.settings_of(TrackOptions())
NO_INDEX = "No index was given; start the page with one that this run made: ssl-video app --model RUN --index INDEX."


def check_gradio() -> None:
    """Raise UserError without gradio."""
    if importlib.util.find_spec("gradio") is None:
        raise needs("The page", "gradio", "app")


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
        if self.index is None:
            raise UserError(NO_INDEX)
        found = self.index.search(admitted(path, self.limits))
        return f"<style>#neighbours {{ {STYLE} }}</style><section>{figures(found)}</section>"

    def speediness(self, path: str | None) -> tuple[str, str]:
        """The video with the curve below it, and a figure of the curve."""
        video = admitted(path, self.limits)
        step = max(1, self.model.view.span(video) // 8)
        curves = speediness_curve.speediness_curves(self.model, video, options=SpeedinessOptions(step))
        shown, picture = self._files("speediness")
        speediness_curve.write_overlay(shown, video, curves.normal_XN[0])
        speediness_curve.draw_speediness(picture, curves, video.info.fps, plain(video))
        return str(shown), str(picture)

    def cam(self, path: str | None) -> tuple[str, str]:
        """The video beside its activation maps, and a sheet of them."""
        video = admitted(path, self.limits)
        head = cam_maps.head_of(self.model, video)
        step = max(1, self.model.view.span(video) // 8)
        paint = cam_pictures.Painter(cam_maps.activation_maps(self.model, video, head, CamOptions(step=step)), None)
        shown, picture = self._files("cam")
        cam_pictures.write_beside(shown, video, paint)
        cam_pictures.draw_sheet(picture, video, paint, head, 6, plain(video))
        return str(shown), str(picture)

    def first_frame(self, path: str | None) -> Any:
        """frame_HWC to choose a point on."""
        return track.first_frame(Path(admitted(path, self.limits).path))

    def track(self, path: str | None, point: tuple[float, float]) -> tuple[str, str]:
        """The video with the point in every frame, and HTML that says how far it was followed."""
        video = admitted(path, self.limits)
        folder = self._files("track")[0].parent
        done = track.track(video.path, self.model, Marks(points=[point]), folder)
        (x, y), seen = point, done.last_seen[1]
        said = f"<p>The point {x:g},{y:g} was last seen in frame {seen}; the last is {done.frames - 1}.</p>"
        return str(folder / "overlay.mp4"), said

    def align(self, path_a: str | None, path_b: str | None) -> tuple[str, str]:
        """Both videos in step, and a picture of the match."""
        a, b = admitted(path_a, self.limits), admitted(path_b, self.limits)
        match = align.match_videos(self.model, a, b)
        shown, picture = self._files("aligned")
        align.write_side_by_side(shown, a, b, match)
        align.draw_match(picture, match, (plain(a), plain(b)))
        return str(shown), str(picture)

    def _files(self, name: str) -> tuple[Path, Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return folder / f"{name}.mp4", folder / f"{name}.png"


def plain(video: Video) -> str:
    """The name of a file for a picture, where a dollar would begin a formula."""
    return Path(video.path).name.replace("$", "\\$")


def page_of(app: App) -> Any:
    """The page: a place to drop a video, and below it a tab for each thing to do with it. Returns gradio's Blocks."""
    import gradio as gr  # pyright: ignore[reportMissingImports]

    def guarded(do: Callable[..., Any], *given: Any) -> Any:
        try:
            return do(*given)
        except (UserError, VideoError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    def about(path: str | None) -> str:
        return guarded(app.about, path)

    def neighbours(path: str | None) -> str:
        return guarded(app.neighbours, path)

    def speediness(path: str | None) -> tuple[str, str]:
        return guarded(app.speediness, path)

    def cam(path: str | None) -> tuple[str, str]:
        return guarded(app.cam, path)

    def first_frame(path: str | None) -> Any:
        return guarded(app.first_frame, path)

    def follow(path: str | None, event: gr.SelectData) -> tuple[str, str]:
        return guarded(app.track, path, tuple(event.index))

    def aligned(path_a: str | None, path_b: str | None) -> tuple[str, str]:
        return guarded(app.align, path_a, path_b)

    cannot = app.refusals()
    still: Any = {"format": "png", "buttons": ["download", "fullscreen"]}  # no button that shares it with a website
    with gr.Blocks(title="ssl-video", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f"<h1>ssl-video: {escaped(app.model.name)}</h1>")
        dropped = gr.File(label="A video: drop it here", type="filepath", elem_id="video")
        said = gr.HTML()
        chain = dropped.upload(about, dropped, said, api_visibility="private")

        with gr.Tab("Neighbours"):
            if not refused(gr, cannot["neighbours"]):
                found = gr.HTML(elem_id="neighbours")
                chain = chain.success(neighbours, dropped, found, api_visibility="private")
        for name, label, do in (("speediness", "Speediness", speediness), ("cam", "Activation maps", cam)):
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


def serve(
    model: Model, index: Index | None, limits: Limits, address: tuple[str, int], ready: Callable[[str], None]
) -> None:
    """Serve the page until it is interrupted. Uploads and results lie in a folder that goes with it.

    Args:
        model: what the page is about.
        index: made by this model; None: no neighbours are shown.
        limits: of what may be dropped.
        address: host and port; port 0 is the first free one from 7860 on.
        ready: called with the address of the page as soon as it can be opened.

    Raises:
        UserError: without gradio, or if the address cannot be had.
    """
    host, port = address
    check_gradio()
    with tempfile.TemporaryDirectory(prefix="ssl-video-app-") as folder:
        # read when gradio is imported: no analytics, nothing fetched, its files in our folder
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, HF_HUB_OFFLINE="1")
        page = page_of(App(model, index, limits, Path(folder)))
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port or None,
                share=False,
                ssr_mode=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=int(1e6 * limits.max_megabytes),
                allowed_paths=[],
                footer_links=["settings"],
            )
        except OSError:
            where = f"port {port}" if port else "a port from 7860 on"
            raise UserError(f"The page cannot listen at {where} of {host}; choose another --port or --host.") from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder goes then, too
        try:
            ready(url)
            page.block_thread()
        finally:
            page.close(verbose=False)
