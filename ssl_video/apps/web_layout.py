"""The local web page on a run, laid out and served by gradio, an extra: drop a video, and every tab fills by itself."""

import html
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ssl_video.apps.options import Limits
from ssl_video.apps.rendering import stylesheet
from ssl_video.apps.search import Index
from ssl_video.apps.web_page import App, cannot_listen, check_gradio
from ssl_video.errors import UserError
from ssl_video.files import legible
from ssl_video.model import Model
from ssl_video.progress import Bar, heard
from ssl_video.video.info import VideoError

CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button.open');
  if (button) trigger('choose', { number: Number(button.dataset.number) });
});
"""
"""Of the neighbours: a click, or Enter, on a name says its number."""
FONT = ("system-ui", "sans-serif")
MONO_FONT = ("ui-monospace", "monospace")
AA = {
    "color_accent": "*primary_600",
    "body_text_color_subdued": "#57606a",
    "body_text_color_subdued_dark": "#a3adb8",
    "button_primary_background_fill": "*primary_600",
}
"""Colours of the theme whose own have too little contrast."""
Outputs = list[Any]


class Page:
    """The page of an App: makes its components, and says what fills them when."""

    def __init__(self, app: App):
        import gradio as gr  # pyright: ignore[reportMissingImports]

        self.gr, self.app = gr, app
        self.cannot = app.refusals()
        self.filled: list[tuple[Callable[..., Any], Outputs]] = []
        self.asked: Outputs = []
        """What is filled by a click, and emptied when another video is dropped."""

    def blocks(self) -> Any:
        """A place to drop a video, and below it a tab for each thing to do with it. Returns gradio's Blocks."""
        gr = self.gr
        with gr.Blocks(title="ssl-video", analytics_enabled=False, delete_cache=(600, 3600)) as page:
            gr.HTML(Markup("<h1>ssl-video: {}</h1>").format(legible(self.app.model.name)))
            with gr.Row():
                self.video = gr.File(label="A video: drop it here", type="filepath", elem_id="video")
                with gr.Column():
                    shown = self.player("The video", "dropped")
                    said = gr.HTML()
            self.first = [shown, said]
            with gr.Tabs(overflow_behavior="wrap"):
                for label, tab in (
                    ("Neighbours", self.neighbours),
                    ("Speediness", lambda: self.curve("speediness", "Speediness", self.app.speediness)),
                    ("Activation maps", lambda: self.curve("cam", "Activation maps", self.app.cam)),
                    ("Track a point", self.track),
                    ("Align", self.align),
                ):
                    with gr.Tab(label):
                        tab()
            self.connect()
        return page

    def player(self, label: str, name: str) -> Any:
        """A place for a video, which has no button that shares it with a website."""
        return self.gr.Video(label=label, interactive=False, elem_id=name, buttons=[], height="min(420px, 75vw)")

    def figure(self, label: str, **more: Any) -> Any:
        """A place for a picture, likewise."""
        buttons = ["download", "fullscreen"]
        return self.gr.Image(label=label, alt_text=label, interactive=False, format="png", buttons=buttons, **more)

    def connect(self) -> None:
        """A dropped video empties what stands there, is shown, and then fills one tab after the other."""
        outputs = [*self.first, *self.asked, *(o for _, some in self.filled for o in some)]
        for event in (self.video.upload, self.video.clear):
            emptied = event(lambda: [None] * len(outputs), None, outputs, queue=False, api_visibility="private")
            if event == self.video.upload:
                seen = emptied.then(self.guarded(self.app.dropped), self.video, self.first, **self.how())
                for do, some in self.filled:
                    seen.success(self.guarded(do), self.video, some, **self.how())

    def how(self) -> dict[str, Any]:
        """One thing is computed at a time; none is offered as an API."""
        return {"concurrency_id": "network", "api_visibility": "private"}

    def guarded(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """``do`` with how far it is shown on the page, and its errors of one sentence."""
        gr = self.gr

        def shown(*given: Any, progress: Any = gr.Progress()) -> Any:  # noqa: B008 - gradio's way
            try:
                progress(0, desc="Working")
                with heard(lambda bar: _show(bar, progress)):
                    return do(*given)
            except (UserError, VideoError) as error:
                raise gr.Error(html.escape(legible(str(error))), print_exception=False) from None

        return shown

    def refused(self, name: str) -> bool:
        """Put on the tab why the run cannot do this, if it cannot."""
        if self.cannot[name]:
            self.gr.HTML(Markup('<p class="cannot">{}</p>').format(legible(self.cannot[name])))
        return bool(self.cannot[name])

    def neighbours(self) -> None:
        """The neighbours, which play small, and the one that was chosen."""
        if self.refused("neighbours"):
            return
        import gradio as gr  # pyright: ignore[reportMissingImports]

        found = gr.HTML(elem_id="neighbours", js_on_load=CHOOSE)
        known = gr.State([])
        opened = [self.player("The neighbour: choose one above", "neighbour"), gr.HTML()]
        self.asked += opened
        self.filled.append((self.app.neighbours, [found, known]))
        do = self.guarded(self.app.open)

        def choose(neighbours: Any, event: gr.EventData) -> Any:
            return do(neighbours or [], int(event.number))

        found.choose(choose, known, opened, **self.how())

    def curve(self, name: str, label: str, do: Callable[..., Any]) -> None:
        """A video and a figure."""
        if not self.refused(name):
            shown = [self.player("Play or drag", name), self.figure(label)]
            self.filled.append((do, shown))

    def track(self) -> None:
        """The first frame, where a point is clicked or written, and the video with the point."""
        if self.refused("track"):
            return
        import gradio as gr  # pyright: ignore[reportMissingImports]

        how = "Click a point of the first frame, or write where it lies, in pixels from the left and the top."
        gr.HTML(Markup("<p>{}{}</p>").format(how, self.app.tracked_by))
        frame = self.figure("First frame", elem_id="frame")
        with gr.Row():
            x, y = gr.Number(0, label="x", minimum=0), gr.Number(0, label="y", minimum=0)
            button = gr.Button("Track", elem_id="show-track")
        followed = [self.player("The point", "track"), gr.HTML()]
        self.asked += followed
        self.filled.append((self.app.first_frame, [frame]))
        do = self.guarded(lambda path, x, y: self.app.track(path, (x or 0, y or 0)))

        def clicked(event: gr.SelectData) -> Any:
            return tuple(event.index)

        chosen = frame.select(clicked, None, [x, y], queue=False, api_visibility="private")
        chosen.then(do, [self.video, x, y], followed, **self.how())
        button.click(do, [self.video, x, y], followed, **self.how())

    def align(self) -> None:
        """Another video, and both in step."""
        gr = self.gr
        other = gr.File(label="Another video, which follows the first", type="filepath", elem_id="other")
        button = gr.Button("Align", elem_id="show-align")
        shown = [self.player("In step", "align"), self.figure("Similarity of frames and the match")]
        self.asked += shown
        for event in (button.click, other.upload):
            event(self.guarded(self.app.align), [self.video, other], shown, **self.how())


def _show(bar: Bar, progress: Any) -> None:
    """Put on the page how far a part is that is more than one file; after it, that results are being written."""
    if bar.total is not None and bar.done >= bar.total:
        progress(1.0, desc="Working")
    elif bar.total is None or bar.total > 1:
        progress((bar.done, bar.total), desc=bar.what.capitalize(), unit=f"{bar.unit}s")


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
        from gradio.themes import Default  # pyright: ignore[reportMissingImports]

        page = Page(App(model, index, limits, Path(folder))).blocks()
        colours = Default(primary_hue="blue", font=FONT, font_mono=MONO_FONT).set(**AA)
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
                theme=colours,
                css=stylesheet("clips.css") + stylesheet("app.css"),
            )
        except OSError:
            raise cannot_listen(host, port) from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder goes then, too
        try:
            ready(url)
            page.block_thread()
        finally:
            page.close(verbose=False)
