"""The page on a run."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from ssl_video.apps.inputs import COLUMNS, ROWS, in_colours, strips
from ssl_video.apps.page import Heading, Picture, Table, Words, to_html, to_markdown
from ssl_video.cli import main
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.files import legible
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.run import Run
from ssl_video.train.data import ClipDataset, usable
from ssl_video.train.report import chance_of, held_out_result, panels
from ssl_video.video.flow import encode
from tests import videos
from tests.test_cli import SMALL, said
from tests.test_pretexts import drawn as drawn_videos  # noqa: F401  (a fixture)
from tests.test_pretexts import make

FEW = ["--samples", "2", "--queries", "2", "--neighbours", "3", "--workers", "0"]
HOSTILE = '<img src=x onerror="alert(1)">|`$x$` [a](b)'


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder, SyntheticConfig(train=16, test=8, size=40, frames=32))
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["pretrain", "--data", str(data), "--out", str(out), *SMALL, "--held-out", "0.2"]) == 0
    return out


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def pages(run, *words) -> tuple[str, str]:
    """The Markdown and the HTML of a report that is made without complaint."""
    assert main(["report", str(run), *FEW, *map(str, words)]) == 0
    return (run / "report.md").read_text(), (run / "report.html").read_text()


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """The folder of a report that was written elsewhere than into the run, and its two pages."""
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(finished), *FEW, "--out", str(out)]) == 0
    return out, (out / "report.md").read_text(), (out / "report.html").read_text()


def test_a_finished_run_shows_curves_inputs_and_neighbours(whole):
    _, markdown, page = whole
    text = Tags(page).text
    for part in ("Learning", "What the network saw", "Nearest neighbours", "random weights", "trained", "recall@1"):
        assert part in text and part in markdown
    assert "normal speed" in text and "sped up" in text and "videos/s" in text and "probe_top1" in text
    assert "have changed" not in text


def test_the_html_needs_nothing_but_itself(whole):
    tags = Tags(whole[2]).tags
    pictures = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 1 + 2 * 2 + 2 * (1 + 2 * 3) + 1  # curves, samples, neighbours, the map
    assert all(source.startswith("data:image/") for source in pictures)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}


def test_the_pictures_of_the_markdown_lie_beside_it(whole):
    out, markdown, _ = whole
    linked = set(re.findall(r"!\[\]\((.*?)\)", markdown))
    assert linked == {f"report/{p.name}" for p in (out / "report").iterdir()}


def test_a_report_that_is_written_elsewhere_leaves_the_run_as_it_was(whole, finished):
    assert not (finished / "report.html").exists() and not (finished / "report").exists()


def test_names_of_files_and_classes_are_text_and_not_markup(data, run, tmp_path):
    folder = tmp_path / "videos"
    for n, clip in enumerate(sorted((data / "videos").rglob("*.mp4"))[:8]):
        place = folder / ["plain", "<b>bold"][n % 2]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place / f"{HOSTILE} {n}.mp4")
    markdown, page = pages(run, "--data", folder)
    found = Tags(page)
    assert not any("onerror" in attributes for _, attributes in found.tags)
    assert "b" not in {tag for tag, _ in found.tags}
    assert HOSTILE in found.text and "<b>bold" in found.text
    assert "<img" not in markdown and "<b>" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| trained")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows[:2])


def test_a_name_that_is_no_text_can_be_written():
    assert legible("a\udc80b\x1b[1m\nc") == r"a\x80b\x1b[1m c"
    page = to_html("\udc80", [Words("\x00\ud800")])
    assert r"<h1>\x80</h1>" in page and r"\x00\ud800" in page and page.encode()


def test_a_page_escapes_every_kind_of_block():
    blocks = [Heading(HOSTILE), Words(HOSTILE), Table((HOSTILE,), [(HOSTILE,)]), Picture("p.png", b"", HOSTILE)]
    found = Tags(to_html(HOSTILE, blocks))
    assert [a for t, a in found.tags if t == "img"] == [{"src": "data:image/png;base64,", "alt": ""}]
    assert found.text.count(HOSTILE) == 6  # title and heading of the page, four blocks; a caption says what alt would
    assert "<img" not in to_markdown(HOSTILE, blocks, "p")


def test_code_between_backticks_stays_code_in_both_forms():
    words = [Words("the `file_name` of a_b")]
    assert "<code>file_name</code> of a_b" in to_html("", words)
    assert r"the `file_name` of a\_b" in to_markdown("", words, "")


def test_without_the_data_a_sentence_stands_in_the_place_of_the_samples(run, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] = "/nowhere/at all"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(run / "lists")  # as in a run of version 0.1
    _, page = pages(run)
    assert "There is no file or folder '/nowhere/at all'" in Tags(page).text and "speediness" in Tags(page).text
    assert "There is no file or folder" in capsys.readouterr().out
    assert sum(tag == "img" for tag, _ in Tags(page).tags) == 1  # the curves


def test_videos_that_are_gone_though_listed_are_a_sentence_too(data, run, tmp_path):
    folder = tmp_path / "gone"
    shutil.copytree(data, folder)
    for file in (folder / "videos").rglob("*.mp4"):
        file.unlink()
    markdown, _ = pages(run, "--data", folder)
    assert "cannot be shown" in markdown


def test_other_videos_can_be_shown(run, data):
    _, page = pages(run, "--data", data)
    assert f"Queries: 8 (the test list of {data}). Looked through: 16." in Tags(page).text


def test_of_other_videos_in_one_list_a_fraction_are_queries(run, data):
    _, page = pages(run, "--data", data / "videos")
    assert "Queries: 5 (a fraction of" in Tags(page).text


def test_one_video_alone_has_no_neighbours(run, tmp_path):
    one = videos.mp4(tmp_path / "one.mp4")
    markdown, _ = pages(run, "--data", one)
    assert "One video alone has no neighbours" in markdown and "sample_1_1.jpg" in markdown


def test_an_unfinished_run_is_shown_as_its_checkpoint_has_it(run, whole):
    for name in ("backbone.safetensors", "pretext.safetensors", "report.md", "report.png"):
        (run / name).unlink()
    unfinished, _ = pages(run)
    rows = [[line for line in text.splitlines() if line.startswith("| ")] for text in (whole[1], unfinished)]
    assert any(row.startswith("| after 4 steps |") for row in rows[1])
    assert [row.replace("| after 4 steps |", "| trained |") for row in rows[1]] == rows[0]


def test_a_run_without_configuration_shows_its_curves(run):
    (run / "config.yaml").unlink()
    (run / "backbone.safetensors").unlink()
    markdown, _ = pages(run)
    assert "curves.png" in markdown and "There is no file" in markdown


def test_a_run_that_was_stopped_before_its_first_record_shows_its_inputs(run):
    for name in ("backbone.safetensors", "metrics.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    markdown, _ = pages(run)
    assert "No step was noted yet" in markdown and "sample_1_1.jpg" in markdown
    assert "neither weights nor a checkpoint" in markdown


def test_weights_that_cannot_be_read_are_a_sentence(run):
    (run / "backbone.safetensors").write_bytes(b"cut off")
    markdown, _ = pages(run)
    assert "not a whole safetensors file" in markdown and "curves.png" in markdown


def test_a_fine_tuning_shows_its_curves(run):
    (run / "config.yaml").write_text("preset: default\n")
    markdown, _ = pages(run)
    assert "names no pretext" in markdown and "curves.png" in markdown


def test_a_line_cut_off_ends_the_records_and_strange_values_are_left_out(run):
    records = [{"step": 1, "loss": 2.0, "odd": "<b>", "more": [1]}, {"step": 2, "loss": float("nan")}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 3, "lo')
    assert [sorted(r) for r in Run(run).records()] == [["loss", "step"], ["loss", "step"]]
    markdown, _ = pages(run)
    assert "2 steps are noted" in markdown


def test_the_videos_are_those_that_the_run_has_noted(run, whole):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"held_out": 0.5}))
    assert "Queries: 3 (held out from the training list)" in pages(run)[0]


def test_that_videos_are_gone_is_said(run):
    noted = Run(run).lists()
    gone = replace(noted.training, videos=tuple(replace(v, path=f"/gone/{v.path}") for v in noted.training.videos[:1]))
    there = replace(noted.training, videos=gone.videos + noted.training.videos[1:])
    Run(run).write_lists(replace(noted, training=there))
    markdown, _ = pages(run)
    assert "have changed since the training" in markdown


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert "is no run" in said(capsys, "report", tmp_path)
    assert "is no run" in said(capsys, "report", tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--samples", "--queries", "--neighbours"])
def test_numbers_below_one_are_refused(run, capsys, flag):
    assert "must be a whole number of 1 or more" in said(capsys, "report", run, flag, "0")


def test_every_number_of_a_pretext_has_a_panel():
    records = [{"step": 1, "lr": 0.1, "loss": 1.0, "top3": 0.5, "held_out_top3": 0.4, "waiting": 0.1, "clips_per_s": 9}]
    shown = panels(records)
    assert shown == [("loss", ["loss"]), ("learning rate", ["lr"]), ("top3", ["top3", "held_out_top3"])]


def test_what_held_out_videos_came_to_is_one_sentence_beside_chance():
    records = [{"step": 1, "loss": 1.0, "held_out_loss": 0.9, "held_out_accuracy": 0.75, "probe_top1": 0.3}]
    records += [{"step": 2, "loss": 0.5}]
    sentence = held_out_result(records, {"held_out_accuracy": 0.5, "probe_top1": 0.25}, 8)
    assert sentence == (
        "On 8 held-out videos, not trained on: loss 0.9, accuracy 0.75 (chance 0.5), probe_top1 0.3 (chance 0.25)."
    )
    assert held_out_result(records[1:], {}, 0) == ""


@pytest.mark.parametrize("name", PRETEXTS.names())
def test_the_inputs_of_every_pretext_can_be_shown(name, drawn_videos):  # noqa: F811
    pretext = make(name).train()
    shown = for_modality(drawn_videos, pretext.backbone.clip.modality, reversed=pretext.needs.reversed)
    sample = ClipDataset(usable(shown, pretext), pretext, 0)[0, 0, 0]
    rows = strips(sample)
    assert rows
    for row in rows:
        assert row.picture_HWC.dtype == np.uint8 and row.picture_HWC.shape[2] == 3 and row.label


def clips(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_row_has_the_number_of_its_clip_and_those_of_the_sample():
    sample = {"clips_VTHWC": clips(2, 4, 8, 8, 3), "labels_V": np.array([0.0, 1.0]), "class": 3, "problems": []}
    assert [s.label for s in strips(sample)] == [
        "clips 1 of 2, labels: 0, class: 3",
        "clips 2 of 2, labels: 1, class: 3",
    ]


def test_labels_are_said_in_the_words_of_the_pretext():
    sample = {"clips_VTHWC": clips(2, 4, 8, 8, 3), "labels_V": np.array([0, 1]), "class": 1}
    words = {"labels": ("normal speed", "sped up"), "class": ("in order", "reversed")}
    assert [s.label for s in strips(sample, words)] == [
        "clips 1 of 2, normal speed, reversed",
        "clips 2 of 2, sped up, reversed",
    ]


@pytest.mark.parametrize("name", PRETEXTS.names())
def test_every_label_of_a_pretext_has_words(name, drawn_videos):  # noqa: F811
    pretext = make(name).train()
    shown = for_modality(drawn_videos, pretext.backbone.clip.modality, reversed=pretext.needs.reversed)
    sample = ClipDataset(usable(shown, pretext), pretext, 0)[0, 0, 0]
    for row in strips(sample, pretext.label_words()):
        assert "label" not in row.label and "class" not in row.label


def test_chance_is_that_of_the_pretexts_answers_and_of_the_classes():
    videos = VideoSet("v", (), ("a", "b", "c", "d"))
    assert chance_of(make("speediness"), videos) == {"accuracy": 0.5, "held_out_accuracy": 0.5, "probe_top1": 0.25}
    assert chance_of(make("clip_order"), None)["accuracy"] == pytest.approx(1 / 6)
    assert chance_of(make("contrastive_random_walk"), None) == {}


def test_curves_can_be_had_for_print(run, tmp_path, capsys):
    words = ["report", str(run), "--out", str(tmp_path), "--format", "pdf", "--samples", "1", "--queries", "1"]
    assert main([*words, "--workers", "0"]) == 0
    assert f"{tmp_path / 'curves.pdf'} is written." in capsys.readouterr().out
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_frames_stand_side_by_side_from_left_to_right():
    frames_THWC = clips(3, 8, 10, 3)
    (strip,) = strips({"clip_THWC": frames_THWC})
    assert strip.picture_HWC.shape == (8, 3 * 10 + 2 * 3, 3)
    for n in range(3):
        np.testing.assert_array_equal(strip.picture_HWC[:, 13 * n : 13 * n + 10], frames_THWC[n])


def test_of_many_frames_and_rows_some_are_shown_and_that_is_said():
    shown = strips({"clips_NTHWC": clips(20, 30, 8, 8, 3)})
    assert len(shown) == ROWS and f"{COLUMNS} of 30 frames" in shown[0].label
    assert shown[0].label.startswith("clips 1 of 20") and shown[-1].label.startswith("clips 20 of 20")


def test_arrays_that_are_no_frames_are_left_out():
    assert not strips({"clip_THWC": clips(4, 8, 8, 3).astype(np.float32), "map_THW": clips(4, 8, 8), "n": 3})


def test_flow_is_shown_in_the_colours_of_its_directions():
    right_HW2 = np.zeros((4, 4, 2))
    right_HW2[..., 0] = 5.0
    (frame_HWC,) = in_colours(encode(right_HW2)[None])
    assert (frame_HWC[..., 0] > 250).all() and (frame_HWC[..., 1:] < 5).all()
    (still_HWC,) = in_colours(encode(np.zeros((4, 4, 2)))[None])
    assert (still_HWC == 255).all()


def test_gray_frames_are_shown_gray():
    gray = clips(2, 4, 4, 1)
    np.testing.assert_array_equal(in_colours(gray), gray.repeat(3, axis=-1))
