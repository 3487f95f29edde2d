"""Public verbs of one video: what they are called by is ``ssl_video``, as those of ``api``."""

from pathlib import Path

from ssl_video.api import Named, loaded
from ssl_video.apps.options import RepresentOptions
from ssl_video.apps.represent import represent as represent_video
from ssl_video.apps.represent_folder import Learned
from ssl_video.progress import showing


def represent(
    video: str | Path,
    out: str | Path = "learned",
    *,
    mask: str | Path | None = None,
    model: Named | None = None,
    options: RepresentOptions = RepresentOptions(),
    progress: bool = True,
) -> Learned:
    """Learn one video by one network, to render it at any size and time, and to paint on it.

    ::

        learned = sv.represent("a.mp4", "learned", mask="first_frame.png")
        frames = list(learned.edited({"foreground": "painted.png"}))

    Args:
        video: a file, or a folder with a picture for each frame.
        out: a folder; the same call resumes what was begun there, or finds it done.
        mask: a picture of the foreground in the first frame.
        model: carries that mask to the other frames; by default net:dense, which comes with the package.
        options: see ``ssl_video.apps.options.RepresentOptions``.
        progress: show how far it has come.

    Raises:
        UserError: if anything of this does not fit, or the video cannot be read.
    """
    with showing(progress):
        carrier = None if model is None else loaded(model, "dense")
        return represent_video(video, out, options, mask=mask, model=carrier)
