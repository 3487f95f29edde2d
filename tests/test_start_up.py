"""``--help`` of every command answers at once: nothing large is imported to parse flags."""

import re
import subprocess
import sys

import pytest

from ssl_video.cli import COMMANDS, main
from ssl_video.eval.propagation import Propagation

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
    words += ["data scan", "data cache", "data flow", "data synthesize", "explain flow", "explain cam"]
    words += ["explain affinity"]
    command = [sys.executable, "-c", CODE.format(large=LARGE), *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line for line in said.splitlines() if line.startswith("LARGE")] == [f"LARGE {w} []" for w in words]
    assert said.count("usage: ssl-video") == len(words)


def test_help_names_the_presets_of_tracking_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    said = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert set(Propagation.presets) <= said
