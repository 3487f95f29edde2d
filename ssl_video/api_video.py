"""More public verbs, of drawn videos and of one video that is learned; see ``api``."""

from collections.abc import Sequence
from pathlib import Path

from ssl_video.api import Named, loaded
from ssl_video.apps.generate import Generated, Painters
from ssl_video.apps.generate import generate as generate_by
from ssl_video.apps.generate_given import Given
from ssl_video.apps.options import GenerateOptions, RepresentOptions
from ssl_video.apps.represent import represent as represent_by
from ssl_video.apps.represent_folder import Learned
from ssl_video.progress import showing


def generate(
    model: Named,
    out: str | Path = "generated",
    *,
    prompt: str | Sequence[str] = (),
    image: str | Path | None = None,
    video: str | Path | None = None,
    mask: str | Path | None = None,
    cinemagraph: str | Path | None = None,
    style: Named | None = None,
    upscale: Named | None = None,
    options: GenerateOptions = GenerateOptions(),
    device: str = "auto",
    progress: bool = True,
) -> Generated:
    """Draw videos by a run of video_diffusion.

    ::

        drawn = sv.generate("runs/b", out="drawn", prompt="a red circle drifts left on a dark background")

    The same call gives the same bytes, and goes on with what is missing when it was killed.

    Args:
        model: the run.
        out: a folder that is empty or not there yet, or that the same call has begun.
        prompt: a text, or several, each of which gets videos of its own; of words that the run knows.
        image: a picture that is the first frame.
        video: a video of which ``mask`` marks what is filled, or that ``options.edit`` draws anew.
        mask: a picture, or a folder with a mask for each frame.
        cinemagraph: a picture in which the part of ``image`` is marked that moves.
        style: a run of the same network, part of whose spatial weights are taken.
        upscale: a run of video_upscaling, which makes the videos larger.
        options: see ``ssl_video.apps.options.GenerateOptions``.
        device: auto, cpu, cuda or cuda:N, for models that are named.
        progress: show how far it has come.

    Raises:
        UserError: if a run has not learned what is asked of it, or anything that is given does not fit.
    """
    paths = [None if path is None else Path(path) for path in (image, video, mask, cinemagraph)]
    given = Given((prompt,) if isinstance(prompt, str) else tuple(prompt), *paths)
    with showing(progress):
        others = [None if one is None else loaded(one, "clips", device) for one in (style, upscale)]
        return generate_by(Painters(loaded(model, "clips", device), *others), given, out, options, progress=progress)


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
        return represent_by(video, out, options, mask=mask, model=carrier)
