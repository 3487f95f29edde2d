import csv
import json
import re
from dataclasses import replace

import pytest

from ssl_video.apps.benchmark import Bench, run_table
from ssl_video.apps.table import entries_of, read_table
from ssl_video.apps.table_found import Found
from ssl_video.apps.table_page import spread
from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval import shards
from ssl_video.eval.results import Result
from ssl_video.pretrain_config import PretrainConfig, changed
from ssl_video.recipes import load_recipe, table_file, tables
from ssl_video.yaml_files import load_yaml

CONTENT = {
    "seeds": 2,
    "data": {"a": {"spec": "somewhere", "splits": [1, 2]}, "b": {}},
    "rows": [
        {"name": "fused", "model": "row:scratch", "protocol": "fusion", "options": {"partner": "row:pretrained"}},
        {"name": "scratch", "model": "random:net", "protocol": "finetune"},
        {"name": "pretrained", "model": "recipe:small", "protocol": "finetune", "pretrain": {"steps": 3}},
        {"name": "theirs", "published": {"a": 81.1}},
    ],
}


def result(cell, value):
    return Result(
        protocol=cell.row.protocol, preset="", options={}, model="", data="", split=cell.split,
        metrics={"top1": value, "top5": 2 * value}, counts={"videos": 7}, seed=cell.seed, data_hash="",
        skipped=2 * [{"path": "p", "reason": "r"}],
    )  # fmt: skip


@pytest.fixture
def journal(tmp_path):
    """Runs the table with stand-ins, and what they were asked."""
    asked: list[tuple] = []
    runs: list[str] = []

    def measure(cell, model, options, folder):
        asked.append((cell.row.name, cell.split, cell.seed, model, dict(options)))
        return result(cell, 0.5 + 0.1 * cell.seed)

    def pretrain(recipe, options, cell, run):
        run.mkdir(parents=True)
        (run / "backbone.safetensors").write_text("")
        runs.append(f"{recipe} {options} split {cell.split} seed {cell.seed}")

    def go(content=CONTENT, recipes=None):
        table = replace(read_table(content, {}), recipes=recipes or {})
        run_table(table, tmp_path, measure, pretrain, lambda _text: None)
        return asked, runs

    return go


def test_every_row_is_measured_on_all_splits_and_with_all_seeds_on_the_first(journal):
    asked, runs = journal()
    places = [(split, seed) for name, split, seed, *_ in asked if name == "scratch"]
    assert places == [(1, 0), (1, 1), (2, 0)]
    assert runs == [f"small {{'steps': 3}} split {split} seed {seed}" for split, seed in places]


def test_a_row_may_stand_on_other_rows_which_are_measured_first(journal, tmp_path):
    asked, _ = journal()
    assert [name for name, *_ in asked[:3]] == ["scratch", "pretrained", "fused"]
    _, _, _, model, options = asked[2]
    assert model.startswith(str(tmp_path / "entries" / "scratch-")) and model.endswith("a-split1-seed0/run")
    assert "/pretrained-" in options["partner"]


def test_a_pretrained_row_is_followed_by_its_network_with_random_weights(journal):
    asked, _ = journal()
    (baseline,) = {
        model for name, split, seed, model, _ in asked if name == "pretrained: random weights" and split == 2
    }
    (trained,) = {model for name, split, seed, model, _ in asked if name == "pretrained" and split == 2}
    assert baseline == f"random:{trained}"


def test_a_published_network_gets_its_untrained_twin(journal):
    rows = [{"name": "theirs", "model": "net:vivit_tiny?weights=w.pth&depth=2"}]
    asked, _ = journal({"data": {"d": {"spec": "x"}}, "rows": rows})
    assert [(name, model) for name, _, _, model, _ in asked] == [
        ("theirs", "net:vivit_tiny?weights=w.pth&depth=2"),
        ("theirs: random weights", "random:net:vivit_tiny?weights=w.pth&depth=2"),
    ]


def test_an_interrupted_table_goes_on_and_a_changed_row_is_measured_anew(journal):
    asked, runs = journal()
    first = len(asked)
    journal()
    assert len(asked) == first
    rows = [dict(r, options={"lr": 0.5}) if r["name"] == "scratch" else r for r in CONTENT["rows"]]
    journal({**CONTENT, "rows": rows})
    assert {name for name, *_ in asked[first:]} == {"scratch", "fused"} and len(runs) == 3


def test_what_was_made_by_another_version_of_a_recipe_is_made_anew(journal):
    asked, runs = journal(recipes={"small": {"steps": 1}})
    first = len(asked)
    journal(recipes={"small": {"steps": 2}})
    again = {name for name, *_ in asked[first:]}
    assert again == {"pretrained", "pretrained: random weights", "fused"} and len(runs) == 6


def test_the_table_shows_means_spreads_and_published_numbers(journal, tmp_path):
    journal()
    header, *rows = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    rows = {r[0]: dict(zip(header, r, strict=True)) for r in rows}
    assert rows["scratch"]["a, split 1, 2 seeds"] == "0.550 ± 0.071"
    assert rows["scratch"]["a, 2 splits, seed 0"] == "0.500"
    assert rows["theirs"]["a, published"] == "81.1" and rows["theirs"]["protocol"] == ""
    assert "| scratch |" in (tmp_path / "table.md").read_text()
    assert len(json.loads((tmp_path / "table.json").read_text())) == 12


def test_a_metric_that_the_protocol_does_not_give_is_one_sentence(journal):
    rows = [{"name": "x", "model": "random:net", "metric": "top2"}]
    with pytest.raises(UserError, match="gives no metric 'top2', which row 'x' shows; did you mean"):
        journal({**CONTENT, "rows": rows})


def test_a_row_may_be_pretrained_on_another_data_set_and_show_several_metrics(journal, tmp_path):
    data = {"a": {"spec": "x", "splits": [2]}, "b": {"spec": "y"}}
    row = {"name": "r", "model": "recipe:small", "pretrain_on": "a", "only": ["b"], "metric": "top1 / top5"}
    _, runs = journal({"seeds": 2, "data": data, "rows": [row]})
    assert runs == [f"small {{}} split 2 seed {seed}" for seed in (0, 1)]
    assert "| 0.550 ± 0.071 / 1.100 ± 0.141 |" in (tmp_path / "table.md").read_text()
    with pytest.raises(UserError, match="name it: --data a=SPEC"):
        journal({"data": {**data, "a": {}}, "rows": [row]})


def test_a_pretraining_may_start_from_that_of_another_row(journal, tmp_path):
    rows = [
        {"name": "b", "model": "recipe:small", "pretrain": {"backbone.weights": "pretrained:a"}},
        {"name": "a", "model": "recipe:small"},
    ]
    _, runs = journal({"seeds": 2, "data": {"d": {"spec": "x"}}, "rows": rows})
    assert runs[0] == "small {} split 1 seed 0"  # the row that the other one stands on comes first
    (start,) = re.findall(r"'backbone.weights': '(.*)'} split 1 seed 0", runs[1])
    assert start.endswith("d-split1-seed0/backbone.safetensors") and (tmp_path / start).exists()


def test_a_row_is_measured_only_on_the_data_sets_that_it_names(journal):
    asked, _ = journal({**CONTENT, "data": {"a": {"spec": "x"}, "b": {"spec": "y"}}, "rows": [
        {"name": "everywhere", "model": "random:net"}, {"name": "there", "model": "random:net", "only": ["b"]},
    ]})  # fmt: skip
    assert [name for name, *_ in asked].count("everywhere") == 4 and [n for n, *_ in asked].count("there") == 2


def test_the_table_says_how_many_videos_were_used_and_left_out(journal, tmp_path):
    journal()
    assert "* a, split 2: 7 videos, 2 left out: scratch; pretrained" in (tmp_path / "table.md").read_text()


def test_missing_entries_are_counted():
    assert spread([0.5], 3) == "0.500 (1 of 3)" and spread([], 3) == ""


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"rows": []}, "needs 'rows'"),
        ({"rows": [{"name": "x", "modell": "y"}]}, "did you mean 'model'"),
        ({"rows": [{"name": "x", "model": "row:y"}]}, "refers to a row 'y'"),
        ({"rows": [{"name": "x"}, {"name": "x"}]}, "same name"),
        ({"data": {}}, "names no data"),
        ({"rows": [{"name": "x", "only": ["c"]}]}, "names a data set 'c'"),
        ({"sedes": 3}, "did you mean 'seeds'"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(change, answer):
    with pytest.raises(UserError, match=answer):
        read_table({**CONTENT, **change}, {})
    with pytest.raises(UserError, match="no data set 'c'"):
        read_table(CONTENT, {"c": "x"})


def test_options_of_a_pretraining_go_over_its_recipe_by_the_names_of_flags():
    options = {"steps": 3, "pretext.zero_borders": False, "backbone.width": 4, "optim.lr": 0.5, "data": "videos"}
    config = PretrainConfig.from_mapping(changed(load_recipe("arrow_of_time:small"), options))
    assert config.data.spec == "videos" and config.backbone.options["width"] == 4
    assert (config.training.steps, config.training.optim.lr, config.training.optim.warmup) == (3, 0.5, 0.05)
    assert (config.pretext.options["zero_borders"], config.pretext.options["both_directions"]) == (False, True)


def test_packaged_tables_are_whole():
    for path in map(table_file, tables()):
        content = load_yaml(path)
        table = read_table(content, dict.fromkeys(content["data"], "somewhere"))
        assert list(entries_of(table))


def test_the_command_measures_real_files_and_goes_on(tmp_path, capsys):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=16, test=8, size=40, frames=32))
    small = "{frames: 8, size: 32, short_side: 32, epochs: 1, clips: 1}"
    (tmp_path / "table.yaml").write_text(f"""
title: Drawn videos
data: {{drawn: {{cache: raw, cache_short_side: 32}}}}
rows:
  - {{name: one, model: "random:r2plus1d_4?width=4", protocol: finetune, options: {small}}}
  - {{name: both, model: "row:one", protocol: fusion, options: {{partner: "row:one", clips: 1}}}}
""")
    words = ["benchmark", str(tmp_path / "table.yaml"), "--out", str(tmp_path / "out"), "--workers", "0"]
    assert main(words) == 2
    assert "--data NAME=SPEC" in capsys.readouterr().err
    words += ["--data", f"drawn={tmp_path / 'drawn'}"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "one: drawn, split 1, seed 0" in first and "| both |" in first
    assert main(words) == 0
    assert "one: drawn, split 1, seed 0" not in capsys.readouterr().out


def test_a_pretraining_that_was_interrupted_goes_on_with_its_own_configuration(tmp_path, capsys):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=16, test=8, size=40, frames=64))
    options = "{steps: 2, batch_size: 2, pretext.short_side: 32, pretext.crop: 32, held_out: 0, precision: fp32}"
    (tmp_path / "table.yaml").write_text(f"""
data: {{drawn: {{}}}}
rows:
  - {{name: own, model: "recipe:clip_order:small", protocol: pretext, metric: accuracy, pretrain: {options}}}
""")
    words = ["benchmark", str(tmp_path / "table.yaml"), "--out", str(tmp_path / "out"), "--workers", "0"]
    words += ["--data", f"drawn={tmp_path / 'drawn'}"]
    assert main(words) == 0
    (weights,) = (tmp_path / "out").glob("pretrained/*/*/backbone.safetensors")
    (result,) = (tmp_path / "out").glob("entries/*/*/result.json")
    before = json.loads(result.read_text())["metrics"]
    weights.unlink()  # as if it had been stopped before its end
    result.unlink()
    assert main(words) == 0
    assert json.loads(result.read_text())["metrics"] == before
    assert "training videos" in capsys.readouterr().out


def test_entries_of_one_network_extract_its_features_once_and_find_them_later(tmp_path, monkeypatch):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=8, test=8, size=40, frames=16))
    protocols = ("knn", "linear", "retrieval")
    rows = [
        {"name": p, "model": "random:r2plus1d_4?width=4", "protocol": p, "options": {"clips": 1}} for p in protocols
    ]
    rows[2] |= {"metric": "recall@1"}
    content = {"data": {"drawn": {}}, "seeds": 1, "rows": rows}
    extracted: list[str] = []
    own = shards.extract
    monkeypatch.setattr(
        shards, "extract", lambda m, videos, *a, **k: extracted.append(videos.name) or own(m, videos, *a, **k)
    )

    def go(rows):
        table = read_table({**content, "rows": rows}, {"drawn": str(tmp_path / "drawn")})
        Bench(table, workers=0, device="cpu").run(tmp_path / "out")

    go(rows[:2])
    assert len(extracted) == 2  # the training list and the test list
    go(rows)
    assert len(extracted) == 2
    go([{**rows[0], "model": "random:r2plus1d_4?width=8"}])
    assert len(extracted) == 4


def test_a_row_whose_number_is_known_is_measured_here_if_another_starts_from_its_network(tmp_path):
    table, asked = replace(read_table(CONTENT, {}), recipes={}), []

    def measure(cell, *_):
        asked.append((cell.row.name, cell.split, cell.seed))
        return result(cell, 0.5)

    elsewhere = [Found(entry, result(entry, 0.4)) for entry in entries_of(table) if entry.row.name == "scratch"]
    elsewhere += [Found(e, result(e, 0.4)) for e in entries_of(table) if e.row.name == "fused" and e.seed == 1]

    def pretrain(_recipe, _options, _cell, run):
        run.mkdir(parents=True)
        (run / "backbone.safetensors").write_text("")

    run_table(table, tmp_path, measure, pretrain, lambda _text: None, (), elsewhere)
    assert [place for name, *place in asked if name == "scratch"] == [[1, 0], [2, 0]]  # of which "fused" is measured
