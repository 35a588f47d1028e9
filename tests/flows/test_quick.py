"""Commands that only look are quick: Prefect is not imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.lab.environment import host_environment

pytestmark = pytest.mark.real

PROGRAM = """
import sys
from flows import cli
sys.argv = ["pmoves", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"prefect", "fastapi", "sqlalchemy", "docker", "tensorzero"}
slow = sorted(heavy & {name.split(".")[0] for name in sys.modules})
sys.stderr.write("IMPORTED " + ",".join(slow))
"""


@pytest.mark.parametrize(
    "command",
    [
        ("detect",),
        ("plan",),
        ("history",),
        ("status",),
        ("down",),
        ("profile", "list"),
        ("profile", "detect"),
    ],
    ids=" ".join,
)
def test_a_command_that_looks_imports_no_prefect(command: tuple[str, ...], tmp_path: Path) -> None:
    """Nor a server, nor a database, nor a container client where there is no engine."""
    folder = tmp_path
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM, *command),
        env={**host_environment(folder, folder / "hub", prefect_port=9), "DOCKER_HOST": "unix:///nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("IMPORTED ")
