"""What a run of video_diffusion makes of what it is given: pictures, holes, cinemagraphs, edits, and styles.

    OMP_NUM_THREADS=2 python benchmarks/uses.py WORK --run RUN [--images IMAGES]

RUN has learned drawn prompts (``ssl-video data synthesize --kind prompts``), with captions and all tasks. Given are
``--number`` drawn videos of the same kind that it has not seen, of each its first frame, the video with its right half
hidden, and the video to be edited with ever more noise. Printed are means over the videos: the motion (optical flow, in
pixels a frame), and that of the first frame standing still, which is what the flow sees where nothing moves; how near
what was given had been drawn, before it was put in its place (dB); and how far an edit is from the video (root mean
square, in gray levels).

With ``--images``, the run of single frames on which RUN was built, a style is learned: IMAGES goes on for
``--style-steps`` steps on the training videos in sepia. RUN then draws texts with ever more of that run's spatial
weights. Printed are how far the colours are from sepia (mean distance of a pixel from the nearest sepia tone, in gray
levels), and the motion.

WORK keeps the films and ``table.md``; the same line goes on with what is missing. Some ten minutes of a CPU core.
``--quick``: two videos, two steps.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ssl_video as sv
from benchmarks.kept import check_same, table
from ssl_video.apps.generate import Generated
from ssl_video.apps.options import GenerateOptions
from ssl_video.datasets.drawing.scene import Scene
from ssl_video.datasets.synthetic import draw, drawn_prompt
from ssl_video.files import write_text
from ssl_video.model import Model
from ssl_video.video.writer import TO_LOOK_AT, write_video

FIRST = 1_000_000
"""Number of the first drawn video that is given: no training has it."""
STRENGTHS, WEIGHTS = (0.0, 0.3, 0.6, 0.9), (0.0, 0.5, 0.7, 1.0)
HEAD = ("made of", "motion (px)", "standing still (px)", "given, before it is put in (dB)", "distance")
STYLE_HEAD = ("weight of the style", "from sepia", "motion (px)", "standing still (px)")
LUMA, TINT = np.array([0.299, 0.587, 0.114]), np.array([1.0, 0.8, 0.55])


def sepia(frames_THWC: np.ndarray) -> np.ndarray:
    """Tones of one brown, from black on."""
    return np.rint((frames_THWC @ LUMA)[..., None] * TINT).astype(np.uint8)


def from_sepia(frames_THWC: np.ndarray) -> float:
    """Mean distance of a pixel from the nearest tone, in gray levels."""
    tone = TINT / np.linalg.norm(TINT)
    along = (frames_THWC @ tone)[..., None] * tone
    return float(np.linalg.norm(frames_THWC - along, axis=-1).mean())


def given_files(folder: Path, scene: Scene) -> dict[str, Path]:
    """A drawn video as pictures, its first frame, and a mask of its right half."""
    frames_THWC = scene.frames_THWC
    video, mask = folder / "video", folder / "mask.png"
    video.mkdir(parents=True, exist_ok=True)
    for t, frame_HWC in enumerate(frames_THWC):
        Image.fromarray(frame_HWC).save(video / f"{t:05d}.png")
    right_HW = np.zeros_like(frames_THWC[0, ..., 0])
    right_HW[:, right_HW.shape[1] // 2 :] = 255
    Image.fromarray(right_HW).save(mask)
    return {"video": video, "image": video / "00000.png", "mask": mask}


def uses(work: Path, run: str, number: int, sampling: int) -> Iterator[list[object]]:
    """A row for each use."""
    model = sv.load_model(run)
    size = model.view.size
    scenes = [draw("prompts", FIRST + n, size=size) for n in range(number)]
    files = [given_files(work / "given" / str(n), scene) for n, scene in enumerate(scenes)]
    rows = {
        "a text": [{"prompt": drawn_prompt(FIRST + n).caption} for n in range(number)],
        "a first frame": [{"image": file["image"]} for file in files],
        "a cinemagraph of the right half": [{"image": file["image"], "cinemagraph": file["mask"]} for file in files],
        "the left half": [{"video": file["video"], "mask": file["mask"]} for file in files],
    }
    rows |= {f"an edit of strength {s:g}": [{"video": file["video"], "edit": s} for file in files] for s in STRENGTHS}
    for name, givens in rows.items():
        made = [_made(work, model, name, n, sampling, **given) for n, given in enumerate(givens)]
        means = [_mean(made, of) for of in ("motion_px", "motion_px_frozen", "psnr_before_paste_db", "distance")]
        yield [name, *means]


def _made(work: Path, model: Model, name: str, n: int, sampling: int, **given) -> Generated:
    edit, weight = given.pop("edit", None), given.pop("weight", None)
    options = GenerateOptions(steps=sampling, seed=n, edit=edit, style_weight=weight, lossless=True)
    folder = work / "films" / name.replace(" ", "_") / str(n)
    return sv.generate(model, folder, options=options, progress=False, **given)


def _mean(made: list[Generated], name: str) -> float | str:
    found = [films.mean()[name] for films in made if name in films.mean()]
    return float(np.mean(found)) if found else ""


def styles(work: Path, given: argparse.Namespace) -> Iterator[list[object]]:
    """A row for each weight, and one of real videos in their own colours."""
    model = sv.load_model(given.run)
    folder, size = work / "sepia", model.view.size
    for n in range(given.style_videos):
        path = folder / f"{n:05d}.mp4"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, sepia(draw("prompts", n, size=size).frames_THWC), 25, TO_LOOK_AT)
    style = sv.pretrain(
        folder,
        recipe="video_diffusion:small",
        out=work / "style",
        resume="auto",
        steps=given.style_steps,
        batch_size=64,
        pretext__frames=1,
        fit_span=False,
        backbone__temporal=False,
        backbone__weights=str(sv.Run(given.images).backbone_file),
    )
    for weight in WEIGHTS:
        made = []
        for n in range(given.number):
            text = drawn_prompt(FIRST + n).caption
            name = f"style {weight:g}"
            more = {"prompt": text, "style": str(style), "weight": weight}
            made.append(_made(work, model, name, n, given.steps, **more))
        colours = [from_sepia(np.load(films.folder / "000.npy")) for films in made]
        yield [f"{weight:g}", float(np.mean(colours)), _mean(made, "motion_px"), _mean(made, "motion_px_frozen")]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", help="the run of single frames on which RUN was built")
    for name, default in {"number": 16, "steps": 25, "style-steps": 300, "style-videos": 300}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.number, given.steps, given.style_steps, given.style_videos = 2, 2, 2, 16
    check_same(given.work, {n: str(v) for n, v in vars(given).items() if n not in ("work", "quick")})
    tables = [table(HEAD, uses(given.work, given.run, given.number, given.steps))]
    if given.images:
        tables.append(table(STYLE_HEAD, styles(given.work, given)))
    found = "\n\n".join(tables)
    write_text(given.work / "table.md", f"{found}\n")
    print(found)


if __name__ == "__main__":
    main()
