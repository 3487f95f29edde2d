"""A few dozen damaged files of each kind, with a fixed seed; ``benchmarks/fuzz.py`` tries thousands."""

import os
from collections import Counter

import pytest

from tests.fuzzed import KINDS, make_case, outcome

COUNTS = {"files": 38, "headers": 60, "indices": 32, "checkpoints": 15, "columns": 60, "databases": 10}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_said_in_a_sentence_or_does_no_harm(kind, tmp_path, capfd):
    whole, case = tmp_path / "whole", tmp_path / "case"
    whole.mkdir()
    names, cache = KINDS[kind].draw(whole), os.environ.get("SSL_VIDEO_CACHE")
    counts: Counter[str] = Counter()
    for number in range(COUNTS[kind]):
        name = make_case(kind, number, 0, names, whole, case)
        what, said = outcome(kind, name, case, whole)
        assert what in ("fine", "sentence"), f"{name}, case {number}: {said}"
        counts[what] += 1
    assert counts["sentence" if kind != "databases" else "fine"]
    assert os.environ.get("SSL_VIDEO_CACHE") == cache
    for name in names:
        assert outcome(kind, name, whole, whole) == ("fine", "") or kind in ("headers", "files")
