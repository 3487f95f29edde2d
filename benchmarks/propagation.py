"""Label propagation in windows against chunked products with a mask: seconds a frame, memory, the same labels.

Of the first frames, while the context still fills with frames of the video, and of those behind it.

    python benchmarks/propagation.py [--threads 2] [--frames 5] [--height 60] [--width 107] [--features 256]
        [--context 20] [--radius 12] [--top-k 10] [--labels 5] [--memory 4,24]

The peer does what others do, with care: a chunk of queries times all keys of the context, -inf where a cell of a
previous frame is too far, one top-k over all, a softmax, and the sum of the labels. It holds a context and no more, as
ours does. Both take the same features in turn, so that other work on the machine slows both; the features are smooth
fields that drift, with noise. CPU seconds add up the threads'. Peak memory is that of a process of its own that carries
labels over so many frames, with Python and torch in it.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.eval.affinity import Affinity, propagate

CHUNK = 256


@dataclass(frozen=True)
class Size:
    height: int
    width: int
    features: int
    labels: int


def made(size: Size, frames: int) -> Iterator[Tensor]:
    """features_DHW of unit length: a smooth field that drifts by half a cell a frame, and noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, size.features, size.height // 4 + 8, size.width // 4 + 8, generator=generator)
    fine = F.interpolate(coarse, scale_factor=4, mode="bicubic")[0]
    for t in range(frames):
        field = fine[:, t // 2 % 16 :, (t + 1) // 2 % 16 :][:, : size.height, : size.width]
        yield F.normalize(field + 0.3 * torch.randn(field.shape, generator=generator), dim=0)


def first_labels(size: Size) -> Tensor:
    """labels_LHW: vertical stripes."""
    which = torch.arange(size.width) * size.labels // size.width
    return F.one_hot(which, size.labels).T[:, None].expand(-1, size.height, -1).float()


Seen = list[tuple[Tensor, Tensor]]
"""Features and labels of the frames so far."""


def peer(features: Iterator[Tensor], seen: Seen, how: Affinity) -> Iterator[Tensor]:
    """The same labels of the frames behind ``seen``, by chunks of whole products."""
    first, labels_LHW = seen[0]
    (_, H, W), N = first.shape, first[0].numel()
    keys = first.flatten(1).repeat(1, 1 + how.context)
    labels = labels_LHW.flatten(1).T.repeat(1 + how.context, 1)
    y, x = torch.arange(N) // W, torch.arange(N) % W

    def keep(t: int, frame: Tensor, labels_NL: Tensor) -> None:
        slot = slice((1 + t % how.context) * N, (2 + t % how.context) * N)
        keys[:, slot], labels[slot] = frame.flatten(1), labels_NL

    for t, (frame, known_LHW) in enumerate(seen[1:]):
        keep(t, frame, known_LHW.flatten(1).T)
    for t, frame in enumerate(features, len(seen) - 1):
        queries, out = frame.flatten(1).T.contiguous(), []
        for start in range(0, N, CHUNK):
            chunk = slice(start, start + CHUNK)
            scores = queries[chunk] @ keys
            far = (y[chunk, None] - y) ** 2 + (x[chunk, None] - x) ** 2 >= how.radius**2
            scores[:, N:].unflatten(1, (how.context, N)).masked_fill_(far[:, None], -torch.inf)
            best, cell = scores.topk(how.top_k, 1)
            out.append((labels[cell] * (best / how.temperature).softmax(1)[..., None]).sum(1))
        labels_NL = torch.cat(out)
        keep(t, frame, labels_NL)
        yield labels_NL.T.unflatten(1, (H, W))


def timed(step: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    start, start_cpu = time.perf_counter(), time.process_time()
    labels = step()
    return labels, time.perf_counter() - start, time.process_time() - start_cpu


def compare(size: Size, how: Affinity, frames: int) -> None:
    measured(size, how, 1, frames)
    if how.context:
        measured(size, how, 1 + how.context, frames)


def measured(size: Size, how: Affinity, first: int, frames: int) -> None:
    """Of ``frames`` frames from ``first`` on."""
    labels, stream = first_labels(size), list(made(size, first + frames))
    ours = propagate(iter(stream), labels, how)
    seen = list(zip(stream, (next(ours) for _ in range(first)), strict=False))
    theirs = peer(iter(stream[first:]), seen, how)
    rows, worst = {"windows": [], "chunks, masked": []}, 0.0
    for t in range(first, first + frames):
        a, *row = timed(lambda: next(ours))
        rows["windows"].append(row)
        b, *row = timed(lambda: next(theirs))
        rows["chunks, masked"].append(row)
        worst = max(worst, float((a - b).abs().max()))
        print(f"frame {t}, load {os.getloadavg()[0]:.1f}: " + ", ".join(f"{r[-1][0]:.2f} s" for r in rows.values()))
    print("\n| | s a frame, median | least | CPU s a frame, median | least |\n|---|---|---|---|---|")
    for name, found in rows.items():
        wall, cpu = zip(*found, strict=True)
        times = (statistics.median(wall), min(wall), statistics.median(cpu), min(cpu))
        print(f"| {name} | " + " | ".join(f"{time:.2f}" for time in times) + " |")
    ratios = [
        [b[column] / a[column] for a, b in zip(rows["windows"], rows["chunks, masked"], strict=True)]
        for column in (0, 1)
    ]
    wall, cpu = map(statistics.median, ratios)
    print(f"\ntimes as fast, median of frames: {wall:.1f} (CPU {cpu:.1f})")
    print(f"largest difference of a label: {worst:.1e}")


def memory(arguments: list[str], frames: int) -> float:
    """MB at the peak of a process that carries labels over so many frames; measured before this one grows, from which a
    child inherits the peak."""
    # a process of its own: its peak memory is what is measured
    said = subprocess.run(
        [sys.executable, __file__, *arguments, "--only-carry", str(frames)], capture_output=True, check=True
    )
    return float(said.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"threads": 2, "frames": 5, "height": 60, "width": 107, "features": 256, "context": 20}
    for name, default in {**numbers, "top-k": 10, "labels": 5, "only-carry": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--radius", type=float, default=12)
    parser.add_argument("--memory", default="4,24")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    size = Size(a.height, a.width, a.features, a.labels)
    how = Affinity(a.context, a.radius, a.top_k)
    if a.only_carry:
        for _ in propagate(made(size, a.only_carry), first_labels(size), how):
            pass
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(
        f"{a.height}x{a.width} cells, {a.features} features, {a.context} + 1 frames, radius {a.radius:g}, "
        f"top {a.top_k}, {a.labels} labels, {a.threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    for frames in filter(None, a.memory.split(",")):
        print(f"peak memory over {frames} frames: {memory(sys.argv[1:], int(frames)):.0f} MB")
    compare(size, how, a.frames)


if __name__ == "__main__":
    main()
