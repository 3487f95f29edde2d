"""Where and when in a video a linear head finds what it says: its maps, as a video and a sheet."""

from dataclasses import dataclass
from pathlib import Path

from ssl_video.apps.cam_maps import Head, Maps, activation_maps, correlation, flow_magnitudes, head_of
from ssl_video.apps.cam_pictures import Painter, draw_sheet, write_beside
from ssl_video.apps.options import CamOptions
from ssl_video.datasets.spec import one_video
from ssl_video.files import cut
from ssl_video.model import Model


@dataclass(frozen=True)
class Explained:
    """A head's maps of a video, the magnitude of flow (None unless ``flow`` is set), and the files written."""

    head: Head
    evidence: Maps
    motion: Maps | None
    written: tuple[Path, ...]

    @property
    def correlation(self) -> float | None:
        """Pearson's, of the evidence and the magnitude of flow."""
        return None if self.motion is None else correlation(self.evidence, self.motion)


def explain_cam(
    video: Path | str,
    model: Model,
    out: Path | str = ".",
    options: CamOptions = CamOptions(),
    class_name: str | None = None,
    *,
    progress: bool = False,
) -> Explained:
    """Write ``NAME_cam.mp4``, the frames of a video beside their maps, and ``NAME_cam.png``, some of them.

    Args:
        video: the file.
        model: a run of a pretext with heat maps, or a fine-tuned one.
        out: folder.
        options: see ``CamOptions``.
        class_name: of a fine-tuned model: what to explain; by default the class that it sees.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if the model has no such head or class, or the video cannot be used or is shorter than a clip.
    """
    video, out = Path(video), Path(out)
    scanned = one_video(video)
    head = head_of(model, scanned, class_name, options.speed)
    evidence = activation_maps(model, scanned, head, options, progress=progress)
    motion = None if options.flow is None else flow_magnitudes(scanned, options.flow)
    paint = Painter(evidence, motion)
    beside, sheet = out / f"{cut(video.stem, 180)}_cam.mp4", out / f"{cut(video.stem, 180)}_cam.{options.format}"
    write_beside(beside, scanned, paint, head)
    draw_sheet(sheet, scanned, paint, head, options.columns, video.name)
    return Explained(head, evidence, motion, (beside, sheet))
