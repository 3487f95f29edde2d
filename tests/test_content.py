"""Which video a file is: the digest of its bytes, and where it is kept."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_video.apps.picking import indexed_path
from ssl_video.datasets.base import ListedVideo, Video, VideoList, VideoSet
from ssl_video.datasets.cached import cached
from ssl_video.datasets.flow import flow_of, for_modality
from ssl_video.datasets.manifest import manifest_rows, write_manifest
from ssl_video.datasets.prepare import copy_videos, flow_videos, scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.video.content import BLOCK, content_of
from tests import videos


def scanned_set(*paths: Path) -> VideoSet:
    return scanned(VideoList("drawn", tuple(ListedVideo(str(p)) for p in paths)))


def contents(data: str) -> list[str]:
    return [v.info.content for v in scanned(load_splits(data).train).videos]


def test_a_video_is_known_again_under_another_name_and_another_one_is_not(tmp_path):
    first, other = videos.mp4(tmp_path / "a.mp4", count=5), videos.mp4(tmp_path / "b.mp4", count=6)
    (tmp_path / "elsewhere").mkdir()
    moved = first.rename(tmp_path / "elsewhere" / "c.mp4")
    assert content_of(moved) == scanned_set(moved).videos[0].info.content != content_of(other)
    assert len(content_of(moved)) == 16 and int(content_of(moved), 16)


@pytest.mark.parametrize("place", [0, BLOCK - 1, -BLOCK, -1])
def test_the_beginning_and_the_end_of_a_file_count_and_its_size(tmp_path, place):
    content = bytearray(3 * BLOCK)
    (tmp_path / "zeros").write_bytes(content)
    (tmp_path / "longer").write_bytes(bytes(len(content) + 1))
    content[place] = 1
    (tmp_path / "changed").write_bytes(content)
    assert len({content_of(tmp_path / name) for name in ("zeros", "longer", "changed")}) == 3


def test_a_folder_of_pictures_is_known_by_how_many_they_are_their_sizes_and_its_ends(tmp_path):
    def folder(name: str, *values: int) -> str:
        (tmp_path / name).mkdir()
        for n, value in enumerate(values):
            Image.fromarray(np.full((8, 8 + value // 100, 3), value, np.uint8)).save(tmp_path / name / f"{n}.bmp")
        return content_of(tmp_path / name)

    first = folder("a", 1, 2, 3)
    assert scanned_set(tmp_path / "a").videos[0].info.content == first == folder("again", 1, 2, 3)
    others = {folder("fewer", 1, 2), folder("start", 9, 2, 3), folder("end", 1, 2, 9), folder("wider", 1, 200, 3)}
    assert first not in others and len(others) == 4


def test_copies_and_flow_are_known_as_the_video_that_they_show(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    whole = scanned_set(path)
    shown = [cached(whole, kind, 32, out=tmp_path / kind) for kind in ("h264", "raw")]
    shown.append(flow_of(whole, short_side=32, out=tmp_path / "flow"))
    assert {one.videos[0].info.content for one in shown} == {content_of(path)}
    unknown = replace(whole, videos=(replace(whole.videos[0], info=replace(whole.videos[0].info, content="")),))
    assert cached(unknown, "h264", 32, out=tmp_path / "h264").videos[0].info.content == content_of(path)


def test_manifests_of_videos_copies_and_flow_tell_which_videos_they_are_of(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    scan_to_manifest(str(path), tmp_path / "scan.csv")
    copy_videos(str(path), tmp_path / "copies", short_side=32)
    copy_videos(str(tmp_path / "copies"), tmp_path / "copies of copies", "raw", short_side=32)
    flow_videos(str(tmp_path / "copies"), tmp_path / "flow", short_side=32)
    for made in ("scan.csv", "copies", "copies of copies", "flow"):
        assert contents(str(tmp_path / made)) == [content_of(path)], made


def test_a_video_keeps_its_annotation_and_its_name_in_a_manifest_of_copies(tmp_path, monkeypatch):
    (tmp_path / "masks").mkdir()
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    listed = ListedVideo(str(path), annotation=str(tmp_path / "masks"), annotated="mask_pictures")
    whole = scanned(VideoList("drawn", (listed,)))
    monkeypatch.chdir(tmp_path)
    copies = cached(whole, "h264", 32, out=Path("copies"))  # a folder named from here
    write_manifest("copies/manifest.csv", manifest_rows(copies))
    monkeypatch.chdir("/")
    (again,) = load_splits(str(tmp_path / "copies")).train.videos
    assert Path(again.path).parent == tmp_path / "copies" and Path(again.path).exists()
    assert isinstance(again, Video) and again.source == str(path) and again.key == whole.videos[0].key
    assert (again.annotation, again.annotated) == (str(tmp_path / "masks"), "mask_pictures")


def test_what_needs_the_original_takes_the_copy_where_it_is_gone(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    copies = cached(scanned_set(path), "h264", 32, out=tmp_path / "copies")
    assert copies.videos[0].at_hand == indexed_path(copies.videos[0]) == str(path)
    path.unlink()
    assert copies.videos[0].at_hand == indexed_path(copies.videos[0]) == copies.videos[0].path
    assert for_modality(copies, "flow").videos[0].key == copies.videos[0].key


def test_a_manifest_of_version_0_1_is_read_and_says_nothing_of_content(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    scan_to_manifest(str(path), tmp_path / "scan.csv")
    with (tmp_path / "scan.csv").open(newline="") as file:
        later = ("content", "copy_of", "annotation", "annotated", "published")
        rows = [{k: v for k, v in row.items() if k not in later} for row in csv.DictReader(file)]
    with (tmp_path / "old.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (new,), (old,) = (load_splits(str(tmp_path / name)).train.videos for name in ("scan.csv", "old.csv"))
    assert old == replace(new, info=replace(new.info, content=""))


def test_a_key_begins_with_the_content_and_tells_exact_copies_apart(tmp_path):
    first = videos.mp4(tmp_path / "a.mp4", count=5)
    twin = tmp_path / "b.mp4"
    twin.write_bytes(first.read_bytes())
    keys = [v.key for v in scanned_set(first, twin).videos]
    assert keys == [f"{content_of(first)}/{tmp_path.name}/{name}" for name in ("a.mp4", "b.mp4")]
    video = scanned_set(first).videos[0]
    assert cached(scanned_set(first), "h264", 32, out=tmp_path / "c").videos[0].key == keys[0]
    assert replace(video, info=replace(video.info, content="")).key == f"{tmp_path.name}/a.mp4"
