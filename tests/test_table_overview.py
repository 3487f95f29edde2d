"""The overview of a table of margins: a table a data set, a line a network, a column a protocol."""

from pathlib import Path

import pytest

from ssl_video.apps.table import Entry, Row, Table, load_table, read_table
from ssl_video.apps.table_found import Found, read_stored
from ssl_video.apps.table_overview import OVERVIEW_LEGEND, label_of, overview
from ssl_video.eval.results import Result

CONTENT = {
    "layout": "margins",
    "seeds": 2,
    "data": {"a": {}, "b": {}},
    "rows": [
        {"name": "order: own task, chance 1/6", "model": "recipe:clip_order:small", "protocol": "pretext",
         "metric": "accuracy"},
        {"name": "order: linear", "model": "recipe:clip_order:small"},
        {"name": "order: linear, still", "model": "recipe:clip_order:small", "options": {"still": True}, "twin": False},
        {"name": "order: kNN", "model": "recipe:clip_order:small", "protocol": "knn"},
        {"name": "colours", "model": "random:r2plus1d_4"},
    ],
}  # fmt: skip


def found_of(table: Table, numbers: dict[str, tuple[float, ...]], data: str = "a") -> list[Found]:
    rows = {row.name: row for row in table.rows}
    return [
        Found(Entry(rows[name], data, 1, seed), Result(rows[name].protocol, {rows[name].metric: number}))
        for name, values in numbers.items()
        for seed, number in enumerate(values)
    ]


def cells(lines: list[str]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_a_network_has_a_line_and_a_protocol_a_column_in_which_margins_stand():
    table = read_table(CONTENT, {})
    lines = overview(table, found_of(table, {
        "order: linear": (0.5, 0.7), "order: linear: random weights": (0.1, 0.3),
        "order: own task, chance 1/6": (0.3, 0.9), "order: own task, chance 1/6: random weights": (0.2, 0.2),
        "order: linear, still": (0.2, 0.2), "colours": (0.4, 0.4),
    }))  # fmt: skip
    assert lines[0] == "## a, split 1, 2 seeds" and OVERVIEW_LEGEND in lines
    assert cells(lines) == {
        "": ["own task, accuracy", "linear, top1"],
        "order": ["0.60 (0.20) +0.40 ± 0.30", "0.60 (0.20) **+0.40 ± 0.00**"],
        "order, still": ["", "0.20"],
        "colours": ["", "0.40"],
    }


def test_what_lacks_a_seed_is_left_out_and_nothing_is_written_of_a_set_without_numbers():
    table = read_table(CONTENT, {})
    lines = overview(table, found_of(table, {"order: linear": (0.5,), "colours": (0.4, 0.4)}, "b"))
    assert [line for line in lines if line.startswith("##")] == ["## b, split 1, 2 seeds"]
    assert cells(lines) == {"": ["linear, top1"], "colours": ["0.40"]}
    assert overview(table, []) == []


def test_rows_of_a_section_have_a_table_of_their_own_behind_the_others():
    rows = [{**row, "section": "small"} if row["name"] == "order: kNN" else row for row in CONTENT["rows"]]
    table = read_table({**CONTENT, "rows": rows}, {})
    measured = {"order: linear": (0.5, 0.7), "order: kNN": (0.3, 0.3)}
    lines = overview(table, found_of(table, measured, "b") + found_of(table, measured))
    names = ["a, split 1, 2 seeds", "b, split 1, 2 seeds"]
    assert [line for line in lines if line.startswith("##")] == [
        *(f"## {name}" for name in names), *(f"## small: {name}" for name in names)
    ]  # fmt: skip
    assert sum("kNN" in line for line in lines) == 2


def test_a_label_is_the_network_and_its_control():
    labels = {name: label_of(Row(name)) for name in ("speed: own task, chance 1/2", "speed: kNN", "speed: kNN, still")}
    assert list(labels.values()) == ["speed", "speed", "speed, still"]
    assert label_of(Row("shortcuts, one size")) == "shortcuts, one size"


@pytest.mark.parametrize("name", ["results", "modern"])
def test_a_page_of_docs_shows_what_its_stored_file_holds(name):
    docs = Path(__file__).parents[1] / "docs"
    table = load_table(name, {})
    found, others = read_stored(docs / f"{name}.json", table)
    assert not others, "rows of another configuration: measure them again, or take them out"
    page = (docs / f"{name}.md").read_text("utf-8")
    assert "\n".join(line.replace("## ", "### ") for line in overview(table, found)).strip() in page
