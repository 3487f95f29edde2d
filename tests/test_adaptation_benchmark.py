"""benchmarks/adaptation.py: what it says of steps that help and that harm."""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.adaptation import Plan, all_of, by_sequence, by_start, plan_of
from benchmarks.kept import Kept

PLAN = Plan(Path("davis"), ("a", "b"), ("random:net:dense", "net:dense"), (0, 100), (0, 1))


def found(changes):
    """J = F = 0.5 without steps, and the changes by sequence and seed with 100."""
    return {
        (name, start, steps, seed): dict.fromkeys("JF", 0.5 + (changes[name, seed] if steps else 0)) | {"cpu": 3.0}
        for name, start, steps, seed in product(PLAN.names, PLAN.starts, PLAN.steps, PLAN.seeds)
    }


def test_help_and_harm_are_counted_over_sequences_and_seeds_and_small_changes_are_neither():
    text = by_start(PLAN, found({("a", 0): 0.2, ("a", 1): 0.1, ("b", 0): -0.1, ("b", 1): 0.005}))
    last = [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]
    assert last == ["net:dense", "100", "0.551", "0.001", "0.051", "2 of 4", "1 of 4", "-0.100", "0.200", "3"]


def test_a_sequence_has_its_mean_over_seeds_and_the_last_line_the_mean_over_sequences():
    text = by_sequence(PLAN, found({("a", 0): 0.2, ("a", 1): 0.1, ("b", 0): -0.1, ("b", 1): -0.1}))
    assert text.splitlines()[2:] == [
        "| a | 0.500, 0.500 | 0.650, 0.650 | 0.500, 0.500 | 0.650, 0.650 |",
        "| b | 0.500, 0.500 | 0.400, 0.400 | 0.500, 0.500 | 0.400, 0.400 |",
        "| mean | 0.500, 0.500 | 0.525, 0.525 | 0.500, 0.500 | 0.525, 0.525 |",
    ]


def test_a_trained_network_without_steps_is_measured_once_and_a_random_one_for_each_seed(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr("benchmarks.adaptation.measure", lambda plan, *key: measured.append(key) or {"J": 0.0})
    all_of(PLAN, Kept(tmp_path / "results.json"))
    assert len(measured) == len(set(measured)) == 2 * (4 + 3)
    all_of(PLAN, Kept(tmp_path / "results.json"))
    assert len(measured) == 14


def test_all_sequences_of_the_root_are_measured_from_three_starts(tmp_path):
    for name in ("dog", "blackswan"):
        (tmp_path / "JPEGImages" / "480p" / name).mkdir(parents=True)
    given = {"root": tmp_path, "run": ["runs/a"], "names": None, "steps": "0,100,500", "seeds": "0,1,2", "quick": False}
    plan = plan_of(argparse.Namespace(**given))
    assert plan.names == ("blackswan", "dog") and plan.starts == ("random:net:dense", "net:dense", "runs/a")
