"""What improved trajectories cost: ``python benchmarks/trajectories.py SPEC [VIDEOS]``, one process, one thread.

Every so many videos of the training list is tracked and described, with nothing from the cache; CPU time is counted.
"""

import sys
import time

import cv2
import numpy as np

from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.encoders.tracks import TrackConfig, track
from ssl_video.video.reader import iterate_frames


def main(spec: str, count: int) -> None:
    cv2.setNumThreads(1)
    videos = scanned(load_splits(spec).train).videos
    rows = []
    for video in videos[:: max(1, len(videos) // count)]:
        start = time.process_time()
        found = track(iterate_frames(video.path), TrackConfig())
        rows.append((time.process_time() - start, video.frames, len(found.starts_P)))
    seconds, frames, tracks = np.array(rows).T
    print(f"{len(rows)} videos of {spec}, {frames.mean():.0f} frames and {tracks.mean():.0f} tracks a video")
    median, per_frame = np.median(seconds), 1e3 * seconds.sum() / frames.sum()
    print(f"{seconds.mean():.2f} s a video (median {median:.2f}), {per_frame:.1f} ms a frame")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12)
