"""The script of docs/scale.md that sends a training by submitit, run on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.run import Run

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"```python\n(\"\"\"usage: python submit.py .*?)```", PAGE, re.DOTALL)
SIZES = {"short-side": 18, "crop": 16, "min-size": 16, "max-size": 16, "frames": 4}
TINY = ["--config", "speediness:small", "--backbone.width", "2", *(f"--pretext.{k}={v}" for k, v in SIZES.items())]
TINY += ["--batch-size=4", "--workers=0", "--device=cpu", "--precision=fp32", "--held-out=0", "--no-probe"]


def test_the_script_for_submitit_trains_with_as_many_processes_as_it_asks_for(tmp_path):
    pytest.importorskip("submitit")
    drawn = synthesize(tmp_path / "drawn", SyntheticConfig(size=32, frames=24, train=6, test=2), workers=1).parent
    (tmp_path / "submit.py").write_text(SCRIPT)
    words = ["--data", str(drawn), "--out", "run", "--steps", "2", "--log-every=1", *TINY]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CLUSTER": "local", "NODES": "1", "GPUS": "2"}
    line = [sys.executable, "submit.py", *words]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180)
    said = [path.read_text() for path in sorted((tmp_path / "jobs").glob("*_log.out"))]
    assert done.returncode == 0, (done.stderr[-1000:], said)
    assert len(said) == 2 and Run(tmp_path / "run").finished
    assert ["are written" in text for text in said] == [True, False]  # one training: its first process talks
