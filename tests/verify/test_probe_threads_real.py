"""Several models are verified at once, each with questions of its own, in threads that begin together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
AT_ONCE = """
import sys, threading
from pathlib import Path
import msgspec, yaml
from tasks.verify.probe_shapes import ProbeFile
files = [yaml.safe_load(one.read_text()) for one in sorted(Path("profiles/probes").glob("*.yaml"))]
begin = threading.Barrier(len(files))
def read(data):
    begin.wait()
    msgspec.convert(data, ProbeFile)
threads = [threading.Thread(target=read, args=(one,)) for one in files]
sys.setswitchinterval(1e-6)
for one in threads:
    one.start()
for one in threads:
    one.join()
"""


def test_questions_can_be_read_by_several_threads_at_once() -> None:
    """A shape that two threads use for the first time crashed the interpreter, in half of all tries."""
    for _again in range(6):
        done = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, check=False)
        assert 0 == done.returncode
