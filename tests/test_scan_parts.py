"""A scan in parts, and the manifest that is made of them."""

import json
from pathlib import Path

import pytest

from ssl_video.cli import main
from ssl_video.datasets.pack import pack_videos
from ssl_video.datasets.parts import Part, merge_parts, scan_part
from ssl_video.datasets.prepare import scan_to_manifest
from ssl_video.errors import UserError
from tests import videos as drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos of two lists and two classes, of which some are damaged or absent."""
    made = tmp_path_factory.mktemp("made")
    rows = []
    for n in range(9):
        name, split = f"a{n}.mp4", "test" if n % 3 == 2 else "train"
        rows.append(f"v/{name},c{n % 2},{split}")
        (made / "v").mkdir(exist_ok=True)
        drawn.mp4(made / "v" / name, count=4 + n)
    for n, split in enumerate(("train", "test", "train")):
        rows.insert(2 * n, f"v/bad{n}.mp4,c0,{split}")
        (made / "v" / f"bad{n}.mp4").write_bytes(b"no video" * 99)
        rows.insert(3 * n, f"v/none{n}.mp4,c1,{split}")
    (made / "list.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    return made


def parts(data: Path, out: Path, of: int) -> None:
    for number in range(1, of + 1):
        scan_part(str(data), out, Part(number, of), workers=1)


@pytest.mark.parametrize("of", [1, 2, 3, 20])
def test_parts_make_the_manifest_of_one_scan_byte_for_byte(folder, tmp_path, of):
    for where in (tmp_path, folder):  # paths are written relative to a manifest that lies above them
        whole = scan_to_manifest(str(folder / "list.csv"), where / "whole.csv", workers=1)
        parts(folder / "list.csv", where / "m.csv", of)
        merged = merge_parts(str(folder / "list.csv"), where / "m.csv")
        assert (where / "m.csv").read_bytes() == (where / "whole.csv").read_bytes()
        assert (merged.videos, merged.frames, len(merged.problems)) == (whole.videos, whole.frames, len(whole.problems))
        for path in where.glob("*m.part-*"):
            path.unlink()


def test_parts_of_shards_are_merged(folder, tmp_path):
    pack_videos(str(folder / "list.csv"), tmp_path / "shards", 20_000, workers=1)
    (tmp_path / "shards" / "manifest.csv").unlink()
    scan_to_manifest(str(tmp_path / "shards"), tmp_path / "whole.csv", workers=1)
    parts(tmp_path / "shards", tmp_path / "m.csv", 2)
    merge_parts(str(tmp_path / "shards"), tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_command_scans_parts_and_merges_them(folder, tmp_path, capsys):
    line = ["data", "scan", str(folder / "list.csv"), "--out", str(tmp_path / "m.csv")]
    for part in ("1/2", "2/2"):
        assert main([*line, "--part", part, "--workers", "1"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.part-1-of-2.csv", "m.part-2-of-2.csv"]
    capsys.readouterr()
    assert main([*line, "--merge", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["manifest"], said["videos"], len(said["bad"])) == (str(tmp_path / "m.csv"), 9, 6)
    assert main([*line, "--merge", "--part", "1/2"]) == 2


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_is_none_is_a_sentence(text):
    with pytest.raises(UserError, match=r"^--part takes K/N with K from 1 to N, such as 1/4, not "):
        Part.parsed(text)


def test_a_part_that_is_missing_or_of_another_scan_is_a_sentence(folder, tmp_path):
    data, out = str(folder / "list.csv"), tmp_path / "m.csv"
    with pytest.raises(UserError, match=r"There are no parts of .*m\.csv; make them by 'ssl-video data scan --part"):
        merge_parts(data, out)
    scan_part(data, out, Part(2, 3), workers=1)
    with pytest.raises(UserError, match=r"Of the 3 parts of .*m\.csv are missing: 1/3, 3/3; scan them by --part\."):
        merge_parts(data, out)
    scan_part(data, out, Part(1, 2), workers=1)
    with pytest.raises(UserError, match=r"Beside .*m\.csv lie parts of 2 and 3; remove those of the scan"):
        merge_parts(data, out)
    assert not out.exists()


def test_parts_of_other_files_are_a_sentence(folder, tmp_path):
    parts(folder / "list.csv", tmp_path / "m.csv", 2)
    with pytest.raises(UserError, match=r"The parts list \d+ files (fewer|more) than .* now; scan again by --part"):
        merge_parts(str(folder / "v"), tmp_path / "m.csv")
    part = tmp_path / "m.part-2-of-2.csv"
    part.write_text(part.read_text().replace("path,label", "way,label"))
    with pytest.raises(UserError, match=r"m\.part-2-of-2\.csv is damaged; scan it again by --part\."):
        merge_parts(str(folder / "list.csv"), tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
