"""``--help`` of every command answers at once: nothing large is imported to parse flags."""

import re
import subprocess
import sys

import pytest

from ssl_video.cli import COMMANDS, main
from ssl_video.eval.propagation import Propagation
from ssl_video.video.writer import write_video
from tests.videos import pictures

LARGE = ("torch", "sklearn", "faiss", "av", "cv2", "matplotlib", "scipy")

CODE = """
import contextlib, sys
from ssl_video.cli import main
for word in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        main([*word.split(), "--help"])
    print("LARGE", word, [name for name in {large!r} if name in sys.modules])
"""


def test_help_imports_nothing_large():
    words = list(COMMANDS)
    words += ["data scan", "data cache", "data pack", "data flow", "data synthesize", "explain flow", "explain cam"]
    words += ["explain affinity"]
    command = [sys.executable, "-c", CODE.format(large=LARGE), *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line for line in said.splitlines() if line.startswith("LARGE")] == [f"LARGE {w} []" for w in words]
    assert said.count("usage: ssl-video") == len(words)


def test_tracking_a_short_video_does_not_wait_for_what_it_does_not_need(tmp_path):
    write_video(tmp_path / "clip.mp4", pictures(3, 48, 64))
    code = (
        "import sys; from ssl_video.cli import main; main(sys.argv[1:]); print([n for n in {!r} if n in sys.modules])"
    )
    large = ("torchvision", "matplotlib", "sklearn", "faiss", "scipy", "torch._dynamo", "torch._inductor")
    words = ["track", "clip.mp4", "--model", "random:dense_resnet_8?width=4", "--points", "5,5", "--out", "out"]
    command = [sys.executable, "-c", code.format(large), *words, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_the_presets_of_tracking_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    said = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert set(Propagation.presets) <= said
