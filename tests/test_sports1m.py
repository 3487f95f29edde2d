"""Sports-1M's lists and files."""

from pathlib import Path

import pytest

from ssl_video.datasets.manifest import manifest_rows, write_manifest
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError

LISTS = {
    "labels.txt": "kitesurfing\nfutsal\njūdō\n",
    "original/train_partition.txt": (
        "http://www.youtube.com/watch?v=-a_B1234567 0,2\n"
        "https://www.youtube.com/watch?v=GONE0000000&x=1 1\n\n"
        "http://www.youtube.com/watch?v=c1234567890 1\n"
        "http://www.youtube.com/watch?v=d1234567890 2,2,0\n"
    ),
    "original/test_partition.txt": "http://www.youtube.com/watch?v=e1234567890 1,0\n",
}
FILES = ("videos/-a_B1234567.mp4", "c1234567890.webm", "deep/er/d1234567890.flv", "test/e1234567890.mkv", "x.mp4")


def laid_out(root: Path, **changed: str) -> str:
    for name, text in LISTS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.stem, text), encoding="utf-8")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return f"sports1m:{root}"


def test_videos_are_found_by_their_id_with_all_their_classes(tmp_path):
    splits = load_splits(laid_out(tmp_path))
    assert splits.train.classes == ("kitesurfing", "futsal", "jūdō")
    assert [(Path(v.path).name, v.labels) for v in splits.train.videos] == [
        ("-a_B1234567.mp4", (0, 2)),
        ("c1234567890.webm", (1,)),
        ("d1234567890.flv", (2, 0)),
    ]
    assert splits.test is not None
    assert [(Path(v.path).name, v.labels) for v in splits.test.videos] == [("e1234567890.mkv", (1, 0))]
    assert splits.train.multi_label and splits.test.multi_label


def test_absent_videos_are_counted_and_named(tmp_path):
    splits = load_splits(laid_out(tmp_path))
    assert [Path(p.path).name for p in splits.train.problems] == ["GONE0000000.mp4"]
    assert "1 of the 4 videos that" in splits.warnings[0]


def test_the_lists_may_lie_in_the_root(tmp_path):
    laid_out(tmp_path)
    for path in (tmp_path / "original").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "original").rmdir()
    assert len(load_splits(f"sports1m:{tmp_path}").train.videos) == 3


def test_a_manifest_keeps_all_classes(tmp_path):
    train = load_splits(laid_out(tmp_path)).train
    write_manifest(tmp_path / "manifest.csv", manifest_rows(train))
    again = load_splits(str(tmp_path / "manifest.csv")).train
    named = [[{t.classes[n] for n in v.labels} for v in t.videos] for t in (train, again)]
    assert named[0] == named[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"train_partition": "http://www.youtube.com/watch?v=a 3\n"},
            "line 1: there is no class 3.* seems to count from 1",
        ),
        ({"train_partition": "http://youtu.be/a 0\nhttp://youtu.be/b 3\n"}, "line 2: .* names 3, counted from 0\\."),
        ({"train_partition": "http://www.youtube.com/watch?v=a\n"}, "line 1: .* is not an address"),
        ({"train_partition": "http://www.youtube.com/watch?v=a 1;2\n"}, "line 1: .* is not an address"),
        ({"labels": "a\nb\na\n"}, "a class twice"),
    ],
)
def test_a_wrong_list_is_a_sentence(tmp_path, changed, said):
    with pytest.raises(UserError, match=said):
        load_splits(laid_out(tmp_path, **changed))


def test_missing_lists_and_a_second_split_are_sentences(tmp_path):
    with pytest.raises(UserError, match="There are no labels"):
        load_splits(f"sports1m:{tmp_path}")
    with pytest.raises(UserError, match="no split 2; there are: 1"):
        load_splits(laid_out(tmp_path), split=2)
