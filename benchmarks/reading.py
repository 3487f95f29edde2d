"""Speed of reading random clips, ours beside the field's readers, all in one run.

    python benchmarks/reading.py [--real DIR] [--rounds 7] [--clips 64]      (about 3 minutes on two cores)

One clip is 16 frames, stride 2, from a random place, resized to 128x171 and cropped to 112x112, uint8, through a
DataLoader with 2 worker processes. Decoders use one thread a worker, and everybody resizes with the same function. The
readers take turns over several rounds, and medians are compared; ratios travel between machines, clips a second do not.
CPU time is that of the workers, which other work on the machine troubles less.

First every clip of every reader is compared with a sequential decode: a clip with a wrong frame makes the reader
"wrong" on that source, and it gets no speed. The sources are made: moving textures, 250 frames of 320x240, h264 with a
key frame every 12 or 250 frames. ``--real`` adds the h264 files of a folder, of at most 640x480 pixels and long enough
for a clip; the files on which a reader that ratios are taken to is wrong are named and left out, for everybody.

A peer that is not installed ends the script with exit code 2: a table with a row missing is no comparison.
"""

import argparse
import contextlib
import importlib.metadata
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ssl_video.video.augment import crop, resize
from ssl_video.video.cache import build_clip_cache
from ssl_video.video.fetch import torchcodec_works
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.video.scan import scan
from ssl_video.video.writer import Encoding, write_video

FRAMES, STRIDE, SIZE, CROP = 16, 2, (128, 171), 112
SPAN = STRIDE * (FRAMES - 1) + 1
PEERS = ("av", "torch", "torchvision", "torchcodec", "decord", "opencv-python", "pytorchvideo")

Source = tuple[str, VideoInfo]
Reader = Callable[[Source, int], np.ndarray]  # a source and the number of the first frame -> frames_THWC of any size


def ours(source: Source, start: int) -> np.ndarray:
    path, info = source
    return read_frames(path, range(start, start + SPAN, STRIDE), info)


def torchcodec(source: Source, start: int, seek_mode: str = "exact") -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(source[0], num_ffmpeg_threads=1, seek_mode=seek_mode, dimension_order="NHWC")
    return decoder.get_frames_at(list(range(start, start + SPAN, STRIDE))).data.numpy()


def decord(source: Source, start: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(source[0], ctx=decord.cpu(0), num_threads=1)
    return reader.get_batch(list(range(start, start + SPAN, STRIDE))).asnumpy()


def opencv(source: Source, start: int) -> np.ndarray:
    import cv2

    capture = cv2.VideoCapture(source[0], cv2.CAP_FFMPEG, (cv2.CAP_PROP_N_THREADS, 1))
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = []
    for n in range(SPAN):
        capture.grab()
        if n % STRIDE == 0:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def pytorchvideo(source: Source, start: int) -> np.ndarray:
    from pytorchvideo.data.encoded_video import EncodedVideo

    path, info = source
    video = EncodedVideo.from_path(path, decode_audio=False, decoder="pyav")
    try:  # from half a frame before the first to half a frame after the last, so that no rounding loses one
        clip_CTHW = video.get_clip((start - 0.5) / info.fps, (start + SPAN - 0.5) / info.fps)["video"]
    finally:
        video.close()
    return clip_CTHW[:, ::STRIDE].to(torch.uint8).permute(1, 2, 3, 0).numpy()


class VideoClips:
    """torchvision's reader; its list of clips is made once, outside the measurement."""

    def __init__(self) -> None:
        self.lists: dict[str, object] = {}

    def __call__(self, source: Source, start: int) -> np.ndarray:
        from torchvision.datasets.video_utils import VideoClips

        path = source[0]
        if path not in self.lists:
            self.lists[path] = VideoClips([path], clip_length_in_frames=SPAN, frames_between_clips=1)
        return self.lists[path].get_clip(start)[0][::STRIDE].numpy()


READERS: dict[str, Reader] = {
    "ssl-video": ours,
    "torchcodec exact": torchcodec,
    "torchcodec approximate": partial(torchcodec, seek_mode="approximate"),
    "torchvision VideoClips": VideoClips(),
    "OpenCV": opencv,
    "decord": decord,
    "pytorchvideo pyav": pytorchvideo,
}


COMPARED = ("torchcodec exact", "pytorchvideo pyav")


def clip_of(frames_THWC: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What a network would get. A copy from the cache has its size already, even if it is 172 pixels wide."""
    if min(frames_THWC.shape[1:3]) != min(size):
        frames_THWC = resize(frames_THWC, size)
    return np.ascontiguousarray(crop(frames_THWC, CROP, None))


@dataclass
class Clips(Dataset):
    """The same random clips for every reader."""

    reader: Reader
    sources: Sequence[Source]
    draws: Sequence[tuple[int, int]]  # source, first frame

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        """A clip, and the CPU seconds that it took."""
        (number, start), before = self.draws[index], time.process_time()
        try:
            clip = torch.from_numpy(clip_of(self.reader(self.sources[number], start)))
        except Exception:  # a peer that fails on a clip is wrong about it
            clip = torch.zeros(0, dtype=torch.uint8)
        return clip, time.process_time() - before


def start_worker(_worker: int) -> None:
    """One thread a worker, for everybody; what decoders say about damaged files is not shown."""
    import cv2

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.disable(logging.CRITICAL)


def loader_of(reader: Reader, sources: Sequence[Source], draws: Sequence[tuple[int, int]], workers: int) -> DataLoader:
    return DataLoader(
        Clips(reader, sources, draws),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=start_worker,
        persistent_workers=True,
    )


def timed(loader: DataLoader) -> tuple[float, float]:
    """Clips a second, and CPU seconds a clip."""
    start = time.perf_counter()
    cpu = [seconds for _, seconds in loader]
    return len(cpu) / (time.perf_counter() - start), statistics.mean(cpu)


def wrong_clips(
    clips: Iterator[tuple[torch.Tensor, float]], truth: Sequence[np.ndarray], draws: Sequence[tuple[int, int]]
) -> list[int]:
    """The source of each clip with a frame that looks more like another frame of the video than like the one asked for.

    Readers convert colours a little differently, so frames are compared with their neighbours in time.
    """
    wrong = []
    for (clip, _), (number, start) in zip(clips, draws, strict=True):
        video_THWC = truth[number]
        if len(clip) != FRAMES or any(
            not looks_like(frame, video_THWC, start + STRIDE * t) for t, frame in enumerate(clip.numpy())
        ):
            wrong.append(number)
    return wrong


def looks_like(frame_HWC: np.ndarray, video_THWC: np.ndarray, number: int) -> bool:
    around = range(max(0, number - 3), min(len(video_THWC), number + 4))
    distance = {n: np.abs(frame_HWC.astype(np.int16) - video_THWC[n]).mean() for n in around}
    return distance[number] <= min(distance.values()) + 0.05  # equal pictures are equal


def moving_textures(seed: int, frames: int = 250, height: int = 240, width: int = 320) -> Iterator[np.ndarray]:
    """A textured background that drifts, and textured discs that cross it."""
    rng = np.random.default_rng(seed)
    world = smooth_noise(rng, height + 2 * frames, width + 2 * frames)
    discs = [(smooth_noise(rng, 80, 80), rng.uniform(0, 1, 2), rng.uniform(-4, 4, 2)) for _ in range(4)]
    y, x = np.mgrid[:80, :80]
    inside = (y - 40) ** 2 + (x - 40) ** 2 < 36**2
    for n in range(frames):
        top, left = int(frames + 0.7 * n * np.cos(seed)), int(frames + 0.9 * n * np.sin(seed))
        frame = world[top : top + height, left : left + width].copy()
        for texture, place, speed in discs:
            row, column = ((place * (height, width) + speed * n) % (height - 80, width - 80)).astype(int)
            frame[row : row + 80, column : column + 80][inside] = texture[inside]
        yield frame


def smooth_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: noise of several scales."""
    total = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        coarse = torch.from_numpy(rng.normal(size=(1, 3, height // cell + 2, width // cell + 2)))
        fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
        total += np.sqrt(cell) * fine[0].permute(1, 2, 0).numpy()
    return np.clip(128 + 14 * total, 0, 255).astype(np.uint8)


def made(folder: Path, gop: int, count: int = 4) -> list[Source]:
    paths = [folder / f"gop{gop}-{n}.mp4" for n in range(count)]
    for seed, path in enumerate(paths):
        write_video(path, moving_textures(seed), encoding=Encoding({"preset": "medium"}, gop=gop))
    return found(paths)


def found(paths: Sequence[Path]) -> list[Source]:
    facts = scan([str(path) for path in paths])
    return [(path, info) for path, info in facts if isinstance(info, VideoInfo) and info.frames >= SPAN]


def real(folder: Path, workers: int) -> list[Source]:
    files = found(sorted(path for path in folder.iterdir() if path.is_file()))
    files = [(path, info) for path, info in files if info.codec == "h264" and info.width * info.height <= 640 * 480]
    trials = prepared("", {name: (READERS[name], files) for name in COMPARED}, 4 * len(files), workers)
    for trial in trials:
        names = ", ".join(Path(files[n][0]).name for n in sorted(set(trial.wrong))) or "none"
        print(f"real files of which {trial.reader} returns wrong frames, left out: {names}")
    bad = {n for trial in trials for n in trial.wrong}
    return [file for n, file in enumerate(files) if n not in bad]


@dataclass
class Trial:
    source: str
    reader: str
    loader: DataLoader
    wrong: list[int]  # the source of each wrong clip
    times: list[tuple[float, float]]


def prepared(name: str, readers: dict[str, tuple[Reader, list[Source]]], count: int, workers: int) -> list[Trial]:
    """Loaders of all readers on one kind of source, started, and their clips checked."""
    originals = next(iter(readers.values()))[1]
    rng = np.random.default_rng(0)
    numbers = [int(n) for n in rng.permutation(np.arange(count) % len(originals))]
    draws = [(n, int(rng.integers(originals[n][1].frames - SPAN + 1))) for n in numbers]
    truths = {SIZE: truth_of(originals, SIZE)}
    trials = []
    for reader_name, (reader, sources) in readers.items():
        size = SIZE if sources is originals else (sources[0][1].height, sources[0][1].width)
        if size not in truths:
            truths[size] = truth_of(originals, size)
        loader = loader_of(reader, sources, draws, workers)
        trials.append(Trial(name, reader_name, loader, wrong_clips(iter(loader), truths[size], draws), []))
    return trials


def truth_of(sources: Sequence[Source], size: tuple[int, int]) -> list[np.ndarray]:
    return [np.stack([clip_of(frame[None], size)[0] for frame in iterate_frames(path)]) for path, _ in sources]


def table(trials: Sequence[Trial]) -> str:
    lines = [
        "| source | reader | wrong clips | clips/s | CPU ms a clip | / torchcodec | of CPU | / pytorchvideo | of CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = {(t.source, t.reader): tuple(map(statistics.median, zip(*t.times, strict=True))) for t in trials}
    wrong = {(t.source, t.reader): len(t.wrong) for t in trials}
    for (source, reader), (speed, cpu) in found.items():
        count = wrong[source, reader]
        ratios = ["-"] * 4
        for place, peer in enumerate(COMPARED):
            if (source, peer) in found and not count and not wrong[source, peer]:
                peer_speed, peer_cpu = found[source, peer]
                ratios[2 * place : 2 * place + 2] = f"{speed / peer_speed:.2f}", f"{peer_cpu / cpu:.2f}"
        measured = (f"{speed:.1f}", f"{1000 * cpu:.1f}") if not count else ("wrong", "-")
        lines.append(f"| {' | '.join((source, reader, str(count), *measured, *ratios))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder with h264 files")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=64, help="clips a round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--readers", help="only these, comma-separated; for work on one of them")
    arguments = parser.parse_args()
    try:
        text = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PEERS)
        import cv2  # noqa: F401
        import decord  # noqa: F401
        import pytorchvideo.data.encoded_video  # noqa: F401

        if not torchcodec_works():  # its libraries are loaded late
            raise ImportError("torchcodec does not find FFmpeg's libraries")
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        print(f"A peer is missing, install with pip install '.[bench]' and FFmpeg: {reason}", file=sys.stderr)
        raise SystemExit(2) from None
    warnings.simplefilter("ignore")  # the peers' deprecations
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trials = list(all_trials(Path(folder), arguments))
        for _ in range(arguments.rounds):
            for trial in trials:
                trial.times.append(timed(trial.loader))
    print(f"{text}; Python {platform.python_version()}, {arguments.workers} workers, medians of {arguments.rounds}\n")
    print(table(trials))


def all_trials(folder: Path, arguments: argparse.Namespace) -> Iterator[Trial]:
    kinds = {"gop 12": made(folder, 12), "gop 250": made(folder, 250)}
    if arguments.real:
        kinds |= {"real h264": files} if (files := real(arguments.real, arguments.workers)) else {}
    chosen = arguments.readers.split(",") if arguments.readers else list(READERS)
    for name, sources in kinds.items():
        readers = {reader: (READERS[reader], sources) for reader in READERS if reader in chosen}
        if name == "gop 12" and "ssl-video" in chosen:
            for kind in ("h264", "raw"):
                copies = build_clip_cache(sources, folder / kind, kind, SIZE[0]).values()
                readers[f"ssl-video, {kind} copies"] = (ours, [copy for copy in copies if isinstance(copy, tuple)])
        yield from prepared(name, readers, arguments.clips, arguments.workers)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
