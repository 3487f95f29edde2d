"""What was written is checked when it is read again: damage is one sentence that names the file and says what to do."""

import hashlib
import json
import struct
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_video.apps.table import read_table
from ssl_video.apps.vectors import load_vectors
from ssl_video.backbones.weights.entries import Entry, fetched
from ssl_video.backbones.weights.files import read_state_dict
from ssl_video.cli import main
from ssl_video.datasets.manifest import read_manifest
from ssl_video.errors import UserError
from ssl_video.eval.results import Result, read_results, write_results
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.video.info import VideoError, VideoInfo
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.yaml_files import load_yaml

STATE = {"step": 0, "pretext": {"w": torch.arange(600.0)}, "optimizer": {"lr": 0.1}}


def run_with(folder, *steps: int) -> Run:
    run = Run(folder)
    for step in steps:
        run.save_checkpoint(step, STATE | {"step": step})
    return run


def alter(path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def step_of(run: Run) -> int:
    state = run.load_checkpoint()
    assert state is not None
    return state["step"]


# checkpoints


def test_an_altered_checkpoint_is_said_and_the_one_before_is_taken(tmp_path):
    run = run_with(tmp_path, 10, 20)
    alter(run.checkpoints()[-1])
    with pytest.warns(UserWarning, match=r"step_00000020\.pt is passed over: .*another digest"):
        assert step_of(run) == 10


def test_no_byte_of_a_checkpoint_can_change_unnoticed(tmp_path):
    run = run_with(tmp_path, 1, 2)
    path = run.checkpoints()[-1]
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = run.load_checkpoint()
        assert state is not None
        assert state["step"] == 1 or torch.equal(state["pretext"]["w"], STATE["pretext"]["w"])


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path):
    run = run_with(tmp_path, 10, 20)
    alter(run.checkpoints()[0])
    run.save_checkpoint(30, STATE | {"step": 30})
    assert [path.name[-5:-3] for path in run.checkpoints()] == ["20", "30"]
    alter(run.checkpoints()[1])
    run.save_checkpoint(25, STATE | {"step": 25})  # resumed from 20
    assert [path.name[-5:-3] for path in run.checkpoints()] == ["20", "25"]


def test_a_checkpoint_of_an_earlier_version_has_no_digest_and_is_read(tmp_path):
    run = run_with(tmp_path, 10)
    path = run.checkpoints()[0]
    torch.save(STATE | {"step": 10}, path)
    assert step_of(run) == 10
    alter(path, 0.4)  # inside its numbers: the checksums of the zip file tell
    with pytest.warns(UserWarning, match="has another checksum"), pytest.raises(UserError, match="No checkpoint"):
        run.load_checkpoint()


@pytest.mark.parametrize("state", [[1], {"step": "many"}, {"step": True}, {"steps": 3}, {"step": -1}])
def test_a_checkpoint_of_something_else_is_none(tmp_path, state):
    run = run_with(tmp_path, 10, 20)
    torch.save(state, run.checkpoints()[-1])
    with pytest.warns(UserWarning, match="passed over"):
        assert step_of(run) == 10


# weights


def test_altered_weights_are_refused_whoever_reads_them(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.ones(100), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(2)}, {"k": 1})
    weights, header = load_tensors(path)
    assert header == {"k": 1} and weights["b"].dtype == torch.bfloat16 and weights["c"].item() == 2
    alter(path, 0.9)
    for read in (load_tensors, read_state_dict):
        with pytest.raises(UserError, match=r"w\.safetensors is not a whole .* another digest.*make it again\.$"):
            read(path)


def test_weights_of_an_earlier_version_and_of_others_have_no_digest_and_are_read(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(3)}, path, {"ssl_video": '{"k": 1}'})
    assert load_tensors(path)[1] == {"k": 1}
    save_file({"a": torch.ones(3)}, path)
    assert read_state_dict(path)["a"].tolist() == [1, 1, 1]
    save_tensors(path, {"a": torch.ones(3)}, {})
    assert load_file(path)["a"].tolist() == [1, 1, 1]  # others read ours, too


def test_an_altered_file_of_torch_is_refused_by_its_checksums(tmp_path):
    torch.save({"a": torch.ones(500)}, tmp_path / "w.pth")
    alter(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"not a whole file of weights .*another checksum.*fetch it again"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("end", [b"j\1\0", b"h", b"X\5\0", b"q\1h\7", b""], ids=repr)
def test_a_pickle_that_ends_within_a_word_is_no_whole_file(tmp_path, end):
    (tmp_path / "w.pth").write_bytes(b"\x80\2" + end)
    with pytest.raises(UserError, match="is not a whole file of weights"):
        read_state_dict(tmp_path / "w.pth")


def test_a_published_file_is_compared_with_its_digest_whenever_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"a": torch.ones(500)}, tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()[:8]
    entry = Entry(f"https://example.org/w-{digest}.pth", sha256=digest)
    kept = (tmp_path / "w.pth").rename(tmp_path / "checkpoints" / f"w-{digest}.pth")
    assert fetched(entry)["a"].sum() == 500
    alter(kept, 0.99)
    with pytest.raises(UserError, match="was altered since it was fetched"):
        fetched(entry)


# YAML


BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 100000 values"),
        ("a: &a {b: *a}", "holds itself"), ("a: &a [*a]", "holds itself"), ("&a {b: [*a]}", "holds itself"),
        ("a: " + "[" * 5000, "recursion|inside each other"), ("a: " + "[" * 100 + "]" * 100, "inside each other"),
        ("a: 1\na: 2", "line 2: .*'a' is there twice"), ("x: {steps: 1, steps: 2}", "twice"),
        ("1: 2", "the name 1 is no text"), ("x: {on: 1}", "the name True is no text"), ("? [1, 2]\n: 3", "unhashable"),
        ("a: " + "9" * 5000, "limit|number"), ("a: 99999999999999999999", "no number that can be used"),
        ("a: .nan", "no number"), ("a: 2024-99-99", "month"),
        ("a: !!python/object/apply:os.system [x]", "python/object"),
        ("a: b: c", "line 1"), ("a: \0", "special characters"), ("[1]", "must hold a mapping"),
        ("", "must hold a mapping"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_configuration_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        load_yaml(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and str(error.value).endswith(".")


def test_aliases_that_are_no_bomb_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: &d {<<: *a, z: 4}\ne: {<<: *d}\n"
    )
    content = load_yaml(tmp_path / "c.yaml")
    assert content["b"] == {"x": 1, "y": 2} and content["c"] == {"x": 1, "y": 3}
    assert content["e"] == {"x": 1, "y": 2, "z": 4}


ROW = {"name": "a", "model": "random:r2plus1d_4"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rows": [ROW | {"model": "row:b"}, {"name": "b", "model": "row:a"}]}, "in a circle \\('a', 'b'\\)"),
        ({"rows": [ROW | {"model": "row:a"}]}, "in a circle"),
        ({"rows": [ROW | {"protocol": "fusion", "options": {"partner": "row:a"}}]}, "in a circle"),
        ({"data": {"d": 3}}, "The data set d of the table is 3"), ({"data": {"d": None}}, "is None"),
        ({"rows": [ROW | {"published": {"d": "x"}}]}, "'x' as a published number"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_measured_is_one_sentence(content, said):
    with pytest.raises(UserError, match=said):
        read_table({"rows": [ROW], "data": {"d": "videos"}} | content, {})


def test_a_table_in_a_circle_ends_the_command_with_a_sentence(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(
        'rows: [{name: a, model: "row:b"}, {name: b, model: "row:a"}]\ndata: {d: synthetic}\n'
    )
    assert main(["benchmark", str(tmp_path / "t.yaml"), "--out", str(tmp_path / "o")]) == 2
    assert f"ssl-video: {tmp_path}/t.yaml: Rows of the table refer to each other" in capsys.readouterr().err


# notes of runs, results, features, manifests


DAMAGED = ["", "{", "[1]", '{"a": NaN}', "[" * 100000, "\udcff", "9" * 5000, "null", '[{"protocol": "x"}]', '{"a": 3}']


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("name", ["probe.json", "replaced.json", "lists/seen_before.json", "lists/training.jsonl"])
def test_a_damaged_note_of_a_run_is_one_sentence(tmp_path, name, text):
    run = Run(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / name).write_text(text, errors="surrogateescape")
    read = {"p": run.probe, "r": run.replaced, "s": run.seen_before, "t": run.lists}[(tmp_path / name).name[0]]
    with pytest.raises(UserError, match=rf"{name} (is damaged|cannot be read) .*\.$"):
        read()


def test_records_end_where_a_line_was_cut_off_whatever_stands_there(tmp_path):
    run = Run(tmp_path)
    whole = "".join(json.dumps({"step": n, "loss": 0.5}) + "\n" for n in (1, 2))
    for torn in ('{"step": 3, "lo', "[" * 100000, "9" * 5000, '{"step": 1e999}', '{"step": ' + "9" * 30 + "}"):
        run.records_file.write_text(whole + torn)
        assert [record["step"] for record in run.records()] == [1, 2]
    run.records_file.write_bytes(whole.encode() + b'{"step": 3, "loss": \xff\xfe')
    run.cut_records(2)
    assert run.records_file.read_text() == whole


RESULT = {"protocol": "linear", "metrics": {"top1": 0.5}}


@pytest.mark.parametrize(
    "change",
    [{"metrics": {"top1": "much"}}, {"metrics": [1]}, {"counts": {"test": -1}}, {"confusion": [[1], [2]]},
     {"split": None},
     {"per_video": {"a": 3}}, {"predictions": [{"path": "a"}]}, {"seen": {"a": 1}}, {"classes": "ab"}],
)  # fmt: skip
def test_a_damaged_result_is_one_sentence(tmp_path, change):
    write_results(tmp_path / "r.json", [Result(**RESULT)])
    assert read_results(tmp_path / "r.json")[0].metrics == {"top1": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([RESULT | change]))
    with pytest.raises(UserError, match=r"r\.json is damaged .*; evaluate again\.$"):
        read_results(tmp_path / "r.json")


def features(folder, **about) -> None:
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({"weights": "0", "videos": 2, "shard": 256} | about))
    rows = [{"path": f"{n}.mp4", "labels": [0], "classes": ["a"], "starts": [0, 4]} for n in range(2)]
    (folder / "00000.json").write_text(json.dumps({"rows": rows, "problems": []}))
    np.save(folder / "00000.npy", np.ones((4, 8), np.float32))


def test_damaged_features_are_one_sentence(tmp_path):
    features(tmp_path / "f")
    assert load_vectors(tmp_path / "f").vectors_ND.shape == (2, 8)
    path = tmp_path / "f" / "00000.npy"
    whole = path.read_bytes()
    arrays = (np.ones((3, 8), np.float32), np.ones(8, np.float32), np.array([[{}]] * 4, object), np.ones((4, 8), int))
    for array in arrays:  # too few, no vectors, a pickle, no features
        np.save(path, array, allow_pickle=True)
        with pytest.raises(UserError, match=r"00000\.npy is damaged"):
            load_vectors(tmp_path / "f")
    for content in (
        b"",
        whole[:-9],
        whole[:40],
        whole.replace(b"(4, 8)", b"(4, 9)"),
        whole.replace(b"'<f4'", b"'<f4("),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"00000\.npy (is damaged|cannot be read)"):
            load_vectors(tmp_path / "f")


@pytest.mark.parametrize(
    "about", [{"videos": "many"}, {"shard": 0}, {"weights": None}, {"videos": -1}, {"videos": 1.5}]
)
def test_what_features_say_of_themselves_is_checked(tmp_path, about):
    features(tmp_path / "f", **about)
    with pytest.raises(UserError, match=r"about\.json is damaged"):
        load_vectors(tmp_path / "f")


@pytest.mark.parametrize("fps", ["inf", "nan", "-1", "1e999"])
def test_facts_of_a_manifest_that_no_video_has_name_the_line(tmp_path, fps):
    (tmp_path / "a.mp4").touch()
    head = "path,frames,fps,width,height,duration_s,codec,pts_start,pts_step"
    (tmp_path / "m.csv").write_text(f"{head}\na.mp4,40,{fps},64,48,1.6,h264,0,0\n")
    with pytest.raises(UserError, match=r"m\.csv, line 2: there are no videos at .*run 'ssl-video data scan' again"):
        read_manifest(tmp_path / "m.csv")


def test_facts_that_no_scan_finds_are_none():
    for wrong in ((-1, 25.0), (2**40, 25.0), (40, float("inf")), ("40", 25.0), (40, "25")):
        with pytest.raises(ValueError, match="there are no videos"):
            VideoInfo(*wrong, 64, 48, 1.6, "h264")  # pyright: ignore


def test_a_class_with_a_very_long_number_is_a_name(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "m.csv").write_text(f"path,label\na.mp4,{'9' * 5000}\n")
    assert read_manifest(tmp_path / "m.csv").train.classes == ("9" * 5000,)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0" + struct.pack("<H", 9) + b"{'descr':", b"x"]
)
def test_a_damaged_array_of_frames_is_a_phrase(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    for read in (lambda path: list(iterate_frames(path)), lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError, match="it cannot be read"):
            read(str(tmp_path / "a.npy"))
