"""The Dockerfile, as far as it can be checked without building an image."""

import configparser
import re
import shutil
import subprocess
import sys

import pytest

from tests.pages import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.M)).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line.strip()]


def given(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def copied() -> list[tuple[list[str], str]]:
    """Sources and the destination of every COPY."""
    return [(words[:-1], words[-1]) for words in map(str.split, given("COPY"))]


def test_it_has_no_other_instructions_than_docker_knows():
    known = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in INSTRUCTIONS} == known


@pytest.mark.parametrize("command", given("RUN"))
def test_a_command_parses(command):
    done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_file_that_it_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for sources, _ in copied():
        assert [name for name in sources if not (ROOT / name).exists() or name in ignored] == []


def test_its_extras_are_those_of_the_package():
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg")
    (extras,) = (rest.partition("=")[2] for rest in given("ARG") if rest.startswith("EXTRAS="))
    assert set(extras.split(",")) <= set(config["options.extras_require"])


def test_the_files_that_it_copies_are_enough_to_build_the_package(tmp_path):
    for sources, out in copied():
        for name in sources:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tmp_path / out, symlinks=True)
            else:
                shutil.copy(ROOT / name, tmp_path / out)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1


@pytest.mark.parametrize(("torch", "answer"), [("cpu", "whl/cpu"), ("gpu", "torch torchvision\n"), ("tpu", "not tpu")])
def test_the_build_argument_chooses_the_build_of_torch(torch, answer):
    (command,) = (rest for rest in given("RUN") if "TORCH" in rest)
    script = f'pip() {{ echo "$@"; }}; TORCH={torch}; {command}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert answer in done.stdout + done.stderr and done.returncode == (torch == "tpu")
