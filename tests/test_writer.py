"""Video files that are written: the same frames give the same bytes, whatever lay in memory before."""

import numpy as np
import pytest

from ssl_video.video.augment import resize
from ssl_video.video.writer import TO_LOOK_AT, Encoding, write_video


@pytest.mark.parametrize("encoding", [Encoding(), TO_LOOK_AT, Encoding({"preset": "veryfast", "bf": "0"}, gop=4)])
@pytest.mark.parametrize("size", [(64, 64), (50, 74), (96, 96)])
def test_the_same_frames_give_the_same_bytes(tmp_path, encoding, size):
    rng = np.random.default_rng(0)
    frames_THWC = resize(rng.integers(0, 256, (12, 6, 7, 3), dtype=np.uint8), size)
    written = set()
    for _ in range(12):
        memory = [rng.integers(0, 256, n, dtype=np.uint8) for n in rng.integers(1000, 300_000, 5)]
        write_video(tmp_path / "v.mp4", iter(frames_THWC), encoding=encoding)
        written.add((tmp_path / "v.mp4").read_bytes())
        del memory
    assert len(written) == 1
