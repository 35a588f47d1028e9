"""Set-up by make: what is missing on a machine is named in one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.lab.environment import clean_environment

pytestmark = pytest.mark.real


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return what the set-up reads, in a folder of its own."""
    folder = tmp_path / "clone"
    (folder / "deployments").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "uv.lock", "deployments/bootstrap.sh"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def python_without(tmp_path: Path, *modules: str) -> Path:
    """Return a folder with a python3 that lacks some modules, as Debian's without python3-venv does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in (
        "bash",
        "dirname",
        "grep",
        "tail",
        "head",
        "mktemp",
        "rm",
        "tr",
        "touch",
        "make",
        "env",
        "cat",
    ):
        found = shutil.which(tool)
        assert found, tool
        (folder / tool).symlink_to(found)
    test = " || ".join(f'[[ "$*" == *{module}* ]]' for module in modules) or "false"
    (folder / "python3").write_text(f'#!/bin/bash\nif {test}; then exit 1; fi\nexec {sys.executable} "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


def make(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `make status`, which sets up first."""
    return subprocess.run(
        ("make", "status"),
        cwd=clone,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_no_venv_module_is_one_sentence(clone: Path, tmp_path: Path) -> None:
    """It says what to install."""
    done = make(clone, PATH=str(python_without(tmp_path, "ensurepip")))

    said = [line for line in done.stderr.splitlines() if line.startswith("set-up: ")]
    assert done.returncode != 0
    assert len(said) == 1
    assert said[0] == (
        "set-up: python3 has no venv module; nothing was changed; install it"
        " (Debian, Ubuntu: apt-get install python3-venv) and run make again."
    )
    assert not (clone / ".venv").exists()


def test_no_python_is_one_sentence(clone: Path, tmp_path: Path) -> None:
    """Too old a Python is like none."""
    done = make(clone, PATH=str(python_without(tmp_path, "version_info")))

    assert done.returncode != 0
    assert "no Python 3.11 or newer is on the PATH; nothing was changed; install one" in done.stderr


def test_no_package_index_is_one_sentence(clone: Path, tmp_path: Path) -> None:
    """It says what stays and what to check; the next make goes on from there."""
    done = make(
        clone,
        HOME=str(tmp_path),
        PIP_CONFIG_FILE="/dev/null",
        PIP_FIND_LINKS="",
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
        PIP_DEFAULT_TIMEOUT="2",
    )

    said = [line for line in done.stderr.splitlines() if "package index" in line]
    assert done.returncode != 0
    assert 1 == len(said)
    assert said[0].startswith("set-up: uv could not be installed from the package index (")
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv").exists()
