"""A table of margins: paired standard errors, what is not measured, and the small file that it is printed from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ssl_video.apps.benchmark import of_training, run_table
from ssl_video.apps.table import Entry, Row, chosen_rows, entries_of, read_table
from ssl_video.apps.table_found import Found, key_of, read_stored
from ssl_video.apps.table_margins import HEADER, LEGEND, NOT_MEASURED, margin_of
from ssl_video.apps.table_page import stored_table
from ssl_video.apps.table_rows import in_a_hurry
from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.results import Prediction, Result
from ssl_video.run import Run

CONTENT = {
    "layout": "margins",
    "seeds": 3,
    "data": {"a": {"spec": "somewhere", "splits": [1, 2]}, "b": {}},
    "rows": [
        {"name": "trained", "model": "recipe:speediness:small", "published": {"UCF101": 81.1}, "source": "Table 3"},
        {"name": "own task", "model": "recipe:speediness:small", "protocol": "pretext", "metric": "accuracy"},
        {"name": "still", "model": "recipe:speediness:small", "options": {"still": True}, "twin": False},
        {"name": "colours", "model": "random:r2plus1d_4"},
    ],
}
RIGHT = {"trained": 0.8, "trained: random weights": 0.3}
VIDEOS = 40


def predictions(entry: Entry, root: Path) -> list[Prediction]:
    rng = np.random.default_rng([entry.split, entry.seed, len(entry.row.name)])
    hits = rng.random(VIDEOS) < RIGHT.get(entry.row.name, 0.5)
    return [Prediction(str(root / "videos" / f"{n}.mp4"), "x", "x" if hit else "y", 1.0, ("x" if hit else "y",))
            for n, hit in enumerate(hits)]  # fmt: skip


@pytest.fixture
def measured(tmp_path):
    """Runs a table with a stand-in for the measuring, a seed at a time, and what that was asked."""
    asked: list[Entry] = []

    def measure(entry, model, options, folder):
        asked.append(entry)
        said = predictions(entry, tmp_path)
        right = float(np.mean([p.label == p.predicted for p in said]))
        return Result(entry.row.protocol, {"top1": right, "accuracy": right}, counts={"test": VIDEOS}, predictions=said)

    def pretrain(recipe, options, entry, folder):
        run = Run(folder)
        run.write_config({"pretext": "speediness", "data": "somewhere", "batch_size": 4, "steps": 200})
        with run.open_records() as file:  # interrupted behind step 50, resumed from there: the steps since are written
            file.write(
                '{"step": 40, "clips": 320, "clips_per_s": 8.0}\n{"step": 60, "clips": 480, "clips_per_s": 4.0}\n'
            )
        run.backbone_file.write_text("")

    def go(content=CONTENT, rows=(), seeds=3, elsewhere=None):
        table = read_table({**content, "seeds": seeds}, {})
        known = [] if elsewhere is None else read_stored(elsewhere, table)[0]
        run_table(table, tmp_path, measure, pretrain, lambda _text: None, rows, known)
        return table, asked

    return go


def lines_of(markdown: str) -> list[dict[str, str]]:
    whole = markdown.partition("## All numbers")[2]
    table = [line for line in whole.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]
    return [dict(zip(HEADER, line, strict=True)) for line in cells]


def line_of(markdown: str, row: str, place: str = "a, split 1, 3 seeds") -> dict[str, str]:
    (line,) = [one for one in lines_of(markdown) if one["model"] == row and one["data"] == place]
    return line


def test_splits_with_a_seed_each_are_one_group_over_the_videos_of_all(measured, tmp_path):
    content = {**CONTENT, "data": {"a": {"spec": "somewhere", "splits": [1, 2, 3], "seed_by_split": True}}}
    _, asked = measured(content)
    assert {(e.split, e.seed) for e in asked} == {(1, 0), (2, 1), (3, 2)}
    lines = [line for line in lines_of((tmp_path / "table.md").read_text()) if line["model"] == "trained"]
    assert [line["data"] for line in lines] == ["a, 3 splits, a seed each"]
    assert lines[0]["margin"] and lines[0]["SE over seeds"] and lines[0]["SE over videos"]


def test_what_a_set_is_averaged_over_is_no_part_of_what_its_entries_are_known_by():
    keys = [
        key_of(next(iter(entries_of(table))), table)
        for by_split in (False, True)
        for table in [read_table({**CONTENT, "data": {"a": {"spec": "x", "seed_by_split": by_split}}}, {})]
    ]
    assert keys[0] == keys[1]


def test_the_margin_has_standard_errors_paired_over_seeds_and_over_videos(measured, tmp_path):
    table, _ = measured()
    row, twin = table.rows[:2]
    hits_RSV = np.array([
        [[p.label == p.predicted for p in predictions(Entry(r, "a", 1, seed), tmp_path)] for seed in range(3)]
        for r in (row, twin)
    ]).astype(float)  # fmt: skip
    gains_SV = hits_RSV[0] - hits_RSV[1]
    over_seeds = gains_SV.mean(1).std(ddof=1) / np.sqrt(3)
    over_videos = gains_SV.mean(0).std(ddof=1) / np.sqrt(VIDEOS)
    line = line_of((tmp_path / "table.md").read_text(), "trained")
    assert line["margin"] == f"{gains_SV.mean():+.3f}"
    assert line["SE over seeds"] == f"{over_seeds:.3f}" and line["SE over videos"] == f"{over_videos:.3f}"
    assert line["beyond 2 SE"] == ("yes" if gains_SV.mean() > 2 * max(over_seeds, over_videos) else "no") == "yes"
    assert line["trained"] == f"{hits_RSV[0].mean():.3f} ± {hits_RSV[0].mean(1).std(ddof=1):.3f}"
    assert line["untrained"] == f"{hits_RSV[1].mean():.3f} ± {hits_RSV[1].mean(1).std(ddof=1):.3f}"
    assert line["published"] == "81.1 (UCF101)" and line["source"] == "Table 3"


@pytest.mark.parametrize(("gain", "word"), [(1.0, "yes"), (0.0, "no"), (-1.0, "no, below")])
def test_a_margin_is_beyond_two_standard_errors_of_the_larger_kind_or_not(gain, word):
    def found(name, seed, of_videos):
        entry = Entry(Row(name), "a", 1, seed)
        numbers = {str(n): value for n, value in enumerate(of_videos)}
        return Found(entry, Result("linear", {"top1": float(np.mean(of_videos))}), of_videos={"top1": numbers})

    rng = np.random.default_rng(0)
    before_SV = rng.random((3, 20))
    after_SV = before_SV + gain + np.array([-0.1, 0.0, 0.1])[:, None] + np.linspace(-0.4, 0.4, 20)
    twins = [found("t", seed, values) for seed, values in enumerate(before_SV)]
    trained = [found("r", seed, values) for seed, values in enumerate(after_SV)]
    margin = margin_of(trained, twins, "top1")
    assert margin is not None and margin.beyond == word
    alone = margin_of([Found(f.entry, f.result) for f in trained], twins, "top1")
    assert alone is not None and alone.over_videos is None and alone.beyond == f"{word} (seeds alone)"
    one_seed = margin_of(trained[1:2], twins, "top1")
    assert one_seed is not None and one_seed.over_seeds is None and one_seed.beyond == f"{word} (videos alone)"


def test_a_row_without_all_its_seeds_is_not_measured_and_shows_no_number(measured, tmp_path):
    measured(seeds=2)
    text = stored_table(read_table(CONTENT, {}), tmp_path / "results.json")
    line = line_of(text, "trained")
    assert line["trained"] == NOT_MEASURED and not line["margin"] and not line["minutes"]
    assert line_of(text, "trained", "a, 2 splits, seed 0")["margin"]  # seed 0 of both splits is there
    assert line_of(text, "trained", "b, split 1, 3 seeds")["trained"] == NOT_MEASURED  # nobody has named the set
    assert LEGEND in text


def test_controls_and_baselines_are_compared_with_no_twin_and_an_own_task_is(measured, tmp_path):
    table, _ = measured()
    names = {row.name for row in table.rows}
    assert {"own task: random weights", "trained: random weights"} <= names
    assert not {"still: random weights", "colours: random weights"} & names
    text = (tmp_path / "table.md").read_text()
    for row in ("still", "colours"):
        line = line_of(text, row)
        assert line["trained"] and not line["untrained"] and not line["margin"]
    assert line_of(text, "own task")["margin"]
    assert "random weights" not in "".join(line["model"] for line in lines_of(text))


def test_minutes_and_clips_are_those_of_the_steps_that_count_however_often_they_were_interrupted(measured, tmp_path):
    measured()
    (run, *_) = (tmp_path / "pretrained").glob("*/*")
    assert of_training(Run(run)) == {"minutes": pytest.approx((40 * 4 / 8 + 20 * 4 / 4) / 60), "clips": 480}
    line = line_of((tmp_path / "table.md").read_text(), "trained")
    assert (line["minutes"], line["clips"]) == ("0.7", "480")
    assert not line_of((tmp_path / "table.md").read_text(), "colours")["minutes"]


def test_the_small_file_prints_the_same_table_anywhere_and_holds_no_whole_path(measured, tmp_path):
    measured()
    stored = (tmp_path / "results.json").read_text()
    assert str(tmp_path) not in stored and "/" not in "".join(json.loads(stored)[0]["videos"]["a split 1"])
    away = {**CONTENT, "data": {"a": {"spec": "elsewhere", "splits": [1, 2]}, "b": {}}}
    text = stored_table(read_table(away, {}), tmp_path / "results.json")
    assert "Printed from results.json; nothing was measured now." in text
    assert (
        text.replace("Printed from results.json; nothing was measured now.\n\n", "")
        == (tmp_path / "table.md").read_text()
    )
    assert len(stored) / len(stored.splitlines()) < 600  # bytes an entry of forty videos


def test_numbers_of_another_configuration_are_not_shown_as_those_of_a_row(measured, tmp_path):
    measured()
    rows = [dict(r, options={"still": True}) if r["name"] == "trained" else r for r in CONTENT["rows"]]
    text = stored_table(read_table({**CONTENT, "rows": rows}, {}), tmp_path / "results.json")
    assert line_of(text, "trained")["trained"] == NOT_MEASURED and line_of(text, "colours")["trained"]
    assert "Of another configuration in the file, and not shown: trained; trained: random weights." in text


def test_a_part_of_the_rows_is_measured_and_what_is_there_of_others_is_shown(measured, tmp_path):
    _, asked = measured(rows=["col*"])
    assert {entry.row.name for entry in asked} == {"colours"}
    assert line_of((tmp_path / "table.md").read_text(), "trained")["trained"] == NOT_MEASURED
    table, asked = measured(rows=["trained"])
    assert {entry.row.name for entry in asked} == {"colours", "trained", "trained: random weights"}
    text = (tmp_path / "table.md").read_text()
    assert line_of(text, "colours")["trained"] != NOT_MEASURED and line_of(text, "trained")["margin"]
    before = len(asked)
    measured(rows=["trained", "col*"])
    assert len(asked) == before  # nothing is measured twice
    with pytest.raises(UserError, match="--rows 'colour' matches no row of the table; did you mean 'colours'"):
        chosen_rows(table, ["colour"])


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"videos": {}}, {"row": 3}]', '[{}, {"row": "trained"}]'])
def test_a_damaged_file_is_one_sentence(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json is damaged .*--from"):
        stored_table(read_table(CONTENT, {}), tmp_path / "r.json")


def test_an_unknown_layout_is_one_sentence():
    with pytest.raises(UserError, match="no layout 'margin'; did you mean 'margins'"):
        read_table({**CONTENT, "layout": "margin"}, {})


def test_the_command_measures_margins_of_real_files_and_prints_them_again(tmp_path, capsys):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=16, test=8, size=40, frames=64))
    options = "{steps: 2, batch_size: 2, pretext.short_side: 32, pretext.crop: 32, held_out: 0, precision: fp32}"
    (tmp_path / "table.yaml").write_text(f"""
layout: margins
seeds: 2
data: {{drawn: {{}}}}
rows:
  - {{name: own, model: "recipe:clip_order:small", protocol: pretext, metric: accuracy, pretrain: {options}}}
  - {{name: linear, model: "recipe:clip_order:small", options: {{clips: 2}}, pretrain: {options}}}
""")
    table, out = str(tmp_path / "table.yaml"), tmp_path / "out"
    words = ["benchmark", table, "--out", str(out), "--workers", "0", "--data", f"drawn={tmp_path / 'drawn'}"]
    assert main(words) == 0
    line = line_of((out / "table.md").read_text(), "linear", "drawn, split 1, 2 seeds")
    assert line["SE over seeds"] and line["SE over videos"] and int(line["clips"]) == 2 * 2 * 3  # three clips a sample
    assert float(line["minutes"]) >= 0
    assert str(tmp_path) not in (out / "results.json").read_text()
    (tmp_path / "moved.json").write_text((out / "results.json").read_text())
    capsys.readouterr()
    assert main(["benchmark", table, "--from", str(tmp_path / "moved.json")]) == 0
    printed = capsys.readouterr().out
    assert line_of(printed, "linear", "drawn, split 1, 2 seeds") == line
    assert main(["benchmark", table, "--from", str(tmp_path / "moved.json"), "--rows", "own"]) == 2
    assert "leave --rows and --json out" in capsys.readouterr().err


def test_entries_that_an_earlier_version_kept_are_shown_without_what_it_did_not_note(measured, tmp_path):
    _, asked = measured()
    before = len(asked)
    for kept in tmp_path.glob("entries/*/*/result.json"):
        content = json.loads(kept.read_text())
        content["predictions"] = []
        content.pop("minutes", None), content.pop("clips", None)
        kept.write_text(json.dumps(content))
    measured()
    line = line_of((tmp_path / "table.md").read_text(), "trained")
    assert len(asked) == before and line["margin"] and line["SE over seeds"]
    assert not line["SE over videos"] and not line["minutes"] and line["beyond 2 SE"].endswith("(seeds alone)")


def test_the_twin_of_a_row_may_have_options_of_its_own():
    options = {"features": "model"}
    row = {"name": "r", "model": "recipe:colorization:small", "protocol": "propagation", "metric": "J&F"}
    rows = [{**row, "options": options, "twin_options": {"calibrate": True}}]
    own, twin = read_table({**CONTENT, "rows": rows}, {}).rows
    assert own.options == options and twin.options == {**options, "calibrate": True}
    with pytest.raises(UserError, match="has no option 'calibrat'; did you mean 'calibrate'"):
        read_table({**CONTENT, "rows": [{**row, "twin_options": {"calibrat": True}}]}, {})


def test_a_pretraining_from_that_of_another_row_counts_both(measured, tmp_path):
    rows = [
        {"name": "before", "model": "recipe:speediness:small"},
        {"name": "after", "model": "recipe:speediness:small", "pretrain": {"backbone.weights": "pretrained:before"}},
    ]
    measured({**CONTENT, "rows": rows})
    text = (tmp_path / "table.md").read_text()
    assert (line_of(text, "before")["clips"], line_of(text, "after")["clips"]) == ("480", "960")


def test_a_quick_table_has_one_seed_and_split_short_trainings_and_no_slow_rows():
    rows = [
        {"name": "timed", "model": "recipe:speediness:small", "pretrain": {"minutes": 10}},
        {"name": "counted", "model": "recipe:speediness:small", "pretrain": {"steps": 9}},
        {"name": "slow", "model": "recipe:speediness:small", "quick": False},
    ]
    table = read_table(in_a_hurry({**CONTENT, "title": "T", "rows": rows}), {})
    assert [row.name for row in table.rows if not row.name.endswith("weights")] == ["timed", "counted"]
    assert [dict(table.rows[n].pretrain) for n in (0, 2)] == [{"minutes": 2}, {"steps": 9}]
    assert (
        table.seeds == 1
        and table.data["a"].splits == (1,)
        and table.title == ("T (quick: one seed, 2 minutes, not a result)")
    )


def test_options_of_a_quick_table_stand_over_those_of_a_row():
    row = {"name": "a", "model": "random:r2plus1d_4", "options": {"clips": 4, "still": True}}
    content = {**CONTENT, "rows": [{**row, "quick_options": {"clips": 2}}]}
    assert read_table(content, {}).rows[0].options == {"clips": 4, "still": True}
    assert read_table(in_a_hurry(content), {}).rows[0].options == {"clips": 2, "still": True}


def test_a_row_that_is_measured_in_several_ways_is_written_once():
    each = [{"name": "linear"}, {"name": "kNN", "protocol": "knn", "twin": True, "quick": False}]
    row = {"name": "one", "model": "recipe:speediness:small", "twin": False, "each": each}
    table = read_table({**CONTENT, "rows": [row]}, {})
    assert [(row.name, row.protocol, row.quick) for row in table.rows] == [
        ("one: linear", "linear", True),
        ("one: kNN", "knn", False),
        ("one: kNN: random weights", "knn", False),
    ]
    assert [row.name for row in read_table(in_a_hurry({**CONTENT, "rows": [row]}), {}).rows] == ["one: linear"]


@pytest.mark.parametrize("each", [[], "linear", [{"protocol": "knn"}]])
def test_a_row_with_nothing_to_measure_is_a_sentence(each):
    with pytest.raises(UserError, match="Row 'one' needs 'each', a list of mappings with a name each"):
        read_table({**CONTENT, "rows": [{"name": "one", "each": each}]}, {})


def test_what_was_measured_elsewhere_is_paired_and_not_measured_again(measured, tmp_path):
    _, asked = measured()
    whole = len(asked)
    there = tmp_path / "elsewhere" / "results.json"
    there.parent.mkdir()
    entries = json.loads((tmp_path / "results.json").read_text())
    trained = [one for one in entries[1:] if one["row"] == "trained"]
    there.write_text(json.dumps([entries[0], *trained]))
    everything = (tmp_path / "table.md").read_text()
    (own,) = (f for f in (tmp_path / "entries").glob("trained-*") if "random" not in f.name)
    shutil.rmtree(own)
    measured(elsewhere=there)
    assert len(asked) == whole
    text = (tmp_path / "table.md").read_text()
    assert lines_of(text)[0] == lines_of(everything)[0]  # its margin over its twin, which was measured here
