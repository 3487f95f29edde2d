import os
import subprocess
import sys
import zipfile

import pytest

from tests import warm
from tests.pages import ROOT, example


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_the_wheel_holds_ssl_video_alone_and_all_of_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"ssl_video"}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "ssl_video").rglob("*.py")}
    sources |= {
        f"ssl_video/{p.relative_to(ROOT)}" for room in ("pretexts", "eval") for p in (ROOT / room).rglob("*.py")
    }
    assert sources - set(names) == set()
    assert {"ssl_video/py.typed", "ssl_video/recipes/speediness.yaml"} <= set(names)
    templates = {str(p.relative_to(ROOT)) for p in (ROOT / "ssl_video" / "apps" / "templates").iterdir()}
    assert templates and templates <= set(names)
    weights = {str(p.relative_to(ROOT)) for p in (ROOT / "ssl_video" / "backbones" / "weights" / "data").iterdir()}
    assert weights and weights <= set(names)


def test_an_outside_plug_in_adds_a_pretext_through_an_entry_point(tmp_path):
    (tmp_path / "brightness.py").write_text(example("CONTRIBUTING.md", "python", 'PRETEXTS.register("brightness")'))
    info = tmp_path / "brightness-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ssl_video.pretexts]\nbrightness = brightness\nbroken = nowhere.at.all\n")
    code = (
        "import sys\n"
        "from ssl_video.cli import main\n"
        "from ssl_video.pretexts.base import PRETEXTS\n"
        "PRETEXTS._discovered = False\n"  # as in a fresh process
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def run(*words):
        return warm.run(["-c", code, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})

    listed = run("list", "pretexts")
    assert "Predict the mean brightness of a clip." in listed.stdout
    assert "plug-in 'broken'" in listed.stderr
    assert run("data", "synthesize", "--out", "d", "--train", "6", "--test", "2", "--frames", "16").returncode == 0
    done = run(
        "pretrain", "--data", "d", "--out", "run", "--pretext", "brightness", "--pretext.frames", "3", "--steps", "3",
        "--batch-size", "2", "--workers", "0", "--backbone.width", "4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run("evaluate", "pretext", "--model", "run", "--data", "d").returncode == 0
