"""Folders that are to be written: in use, or new though something was being written there when it was killed."""

import subprocess
import sys

import pytest

from ssl_video.errors import UserError
from ssl_video.files import check_new, folder_written_aside, is_empty, written_aside

KILLED = """
import os, sys
from ssl_video.files import folder_written_aside, written_aside
with written_aside(sys.argv[1] + "/points.csv") as file, folder_written_aside(sys.argv[1] + "/sub") as folder:
    file.write_text("half"); (folder / "a").write_text("half")
    os._exit(9)
"""


def test_what_a_killed_process_was_writing_does_not_block_the_next_one(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert is_empty(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_writes_stays_and_is_in_use(tmp_path):
    with written_aside(tmp_path / "a.csv") as file, folder_written_aside(tmp_path / "b") as folder:
        file.write_text("half")
        assert not is_empty(tmp_path)
        assert file.exists() and folder.exists()


@pytest.mark.parametrize("name", ["a.mp4", ".hidden", ".a.b.tmp", ".notes.tmp.md"])
def test_what_a_user_put_there_is_kept_and_is_in_use(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"is not empty; choose another --out\.$"):
        check_new(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_folder_is_new_and_a_file_is_not(tmp_path):
    (tmp_path / "file").touch()
    assert is_empty(tmp_path / "none") and not is_empty(tmp_path / "file")
