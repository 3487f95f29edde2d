import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_video.video import scan as scan_module
from ssl_video.video.cache import build_clip_cache, copy_path
from ssl_video.video.children import Children
from ssl_video.video.info import Problem, VideoInfo
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.video.scan import CHILD, scan
from tests import videos

HOSTILE = (
    "import json, os, sys, time\n"
    "from ssl_video.video import scan\n"
    "whole = scan.scan_one\n"
    "def hostile(path):\n"
    "    if path.endswith('crash.mp4'): os.abort()\n"
    "    if path.endswith('hang.mp4'): time.sleep(60)\n"
    "    return whole(path)\n"
    "scan.answer_requests(lambda path: scan.asdict(hostile(path)))\n"
)


def test_every_odd_file_gives_facts_or_a_reason(shared_data):
    paths = [str(p) for p in sorted((shared_data / "odd").iterdir())]
    found = dict(scan(paths))
    assert list(found) == paths
    reasons = [p.reason for p in found.values() if isinstance(p, Problem)]
    assert all(reasons) and 10 <= len(reasons) <= 20
    assert all(i.frames > 0 for i in found.values() if isinstance(i, VideoInfo))


def test_a_child_that_crashes_or_hangs_is_one_bad_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", HOSTILE))
    names = ["a", "crash", "b", "hang", "c"]
    paths = [str(videos.mp4(tmp_path / f"{n}.mp4", count=5)) for n in names]
    found = [f for _, f in scan(paths, workers=1, time_limit_s=4)]
    assert [isinstance(f, VideoInfo) for f in found] == [True, False, True, False, True]
    assert "crashed" in found[1].reason and "did not get on for 4 s" in found[3].reason


def test_a_second_scan_decodes_nothing(tmp_path, monkeypatch):
    paths = [str(videos.mp4(tmp_path / f"{n}.mp4", count=5)) for n in range(3)]
    first = list(scan(paths))
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", "raise SystemExit(1)"))
    assert list(scan(paths)) == first
    videos.mp4(tmp_path / "1.mp4", count=7)
    assert isinstance(dict(scan(paths))[paths[1]], Problem)


def test_an_interrupted_scan_goes_on_where_it_was(tmp_path, monkeypatch):
    paths = [str(videos.mp4(tmp_path / f"{n}.mp4", count=5)) for n in range(3)]
    results = scan(paths, workers=1)
    first = next(results)
    results.close()
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", "raise SystemExit(1)"))
    assert next(iter(scan(paths[:1]))) == first


def test_files_that_cannot_be_opened_have_a_reason(tmp_path):
    (tmp_path / "empty.mp4").touch()
    reasons = [f.reason for _, f in scan([str(tmp_path / "empty.mp4"), str(tmp_path / "absent.mp4")])]
    assert reasons == ["it is empty", "No such file or directory"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "file" / "below"))
    assert isinstance(next(scan([str(videos.mp4(tmp_path / "v.mp4", count=5))]))[1], VideoInfo)


@pytest.fixture(scope="module")
def children():
    pool = Children(CHILD, time_limit_s=20)
    yield pool
    pool.end()


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    paths = [videos.mp4(folder / "v.mp4", count=8), videos.avi_with_b_frames(folder / "v.avi", count=8)]
    return [p.read_bytes() for p in paths]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_give_a_reason_or_frames(tmp_path, children, whole_files, data):
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    (tmp_path / "mutated").write_bytes(content)
    found = children.request(str(tmp_path / "mutated"), str(tmp_path / "mutated"))
    assert (isinstance(found, Problem) and found.reason) or (isinstance(found, dict) and found["frames"] > 0)


@pytest.mark.parametrize("kind", ["h264", "raw"])
def test_a_copy_shows_the_same_frames_and_is_kept(tmp_path, kind):
    path = str(videos.avi_with_b_frames(tmp_path / "v.avi"))
    (_, info) = next(scan([path]))
    copies = build_clip_cache([(path, info)], tmp_path / "c", kind, short_side=48)
    copy, facts = copies[path]
    assert facts.frames == info.frames
    difference = abs(read_frames(copy, list(range(40)), facts).astype(int) - list(iterate_frames(path)))
    assert difference.mean(axis=(1, 2, 3)).max() < (8 if kind == "h264" else 1e-9)
    before = (tmp_path / "c" / copy).stat().st_mtime_ns
    assert build_clip_cache([(path, info)], tmp_path / "c", kind, short_side=48) == copies
    assert (tmp_path / "c" / copy).stat().st_mtime_ns == before


def test_an_unfinished_copy_is_made_again(tmp_path):
    path = str(videos.mp4(tmp_path / "v.mp4", count=9))
    (_, info) = next(scan([path]))
    copy = copy_path(path, tmp_path / "c", "h264", 48)
    copy.parent.mkdir()
    copy.write_bytes(b"half a file, and no note beside it")
    assert build_clip_cache([(path, info)], tmp_path / "c", "h264", 48)[path][1].frames == 9


def test_copies_of_equal_names_do_not_meet(tmp_path):
    assert copy_path("/a/v.mp4", tmp_path, "raw", 48) != copy_path("/b/v.mp4", tmp_path, "raw", 48)


def test_a_source_with_other_frames_than_the_scan_found_is_a_problem(tmp_path):
    path = str(videos.mp4(tmp_path / "v.mp4", count=9))
    wrong = VideoInfo(12, 25.0, 64, 48, 0.5, "h264")
    found = build_clip_cache([(path, wrong)], tmp_path / "c", "raw", 48)[path]
    assert isinstance(found, Problem) and "the scan found 12" in found.reason
