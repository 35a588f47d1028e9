"""A catalogue of one's own that is not there or not right: one sentence, and nothing is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lab.host import LabHost

pytestmark = pytest.mark.real
SHIPPED = Path(__file__).parents[2] / "profiles"


def missing(folder: Path) -> str:
    """Leave it out."""
    return f"{folder}/models: the catalogue's folder cannot be read"


def a_file(folder: Path) -> str:
    """Put a file in its place."""
    folder.touch()
    return f"{folder}/models: the catalogue's folder cannot be read"


def empty(folder: Path) -> str:
    """Put nothing in it."""
    folder.mkdir()
    return f"{folder}/models: the catalogue's folder cannot be read"


def broken(folder: Path) -> str:
    """Have a file in it that is no YAML."""
    shutil.copytree(SHIPPED, folder)
    (folder / "images.yaml").write_text("images: {\n")
    return "images.yaml:2:1: this is not YAML"


@pytest.mark.parametrize("command", ["plan", "provision"])
@pytest.mark.parametrize("wrong", [missing, a_file, empty, broken])
def test_a_catalogue_that_is_not_right_is_one_sentence(wrong: object, command: str, tmp_path: Path) -> None:
    """Exit code 2; no Prefect server was started, and no state was made but what caches the catalogue."""
    assert callable(wrong)
    says = wrong(tmp_path / "catalogue")
    one = LabHost.make(tmp_path / "host", tmp_path / "hub").but(PMOVES_PROFILES=str(tmp_path / "catalogue"))

    done = one.pmoves(command)

    assert 2 == done.returncode, done.stderr
    assert says in done.stderr.strip().splitlines()[-1]
    assert 2 == done.stderr.strip().splitlines()[-1].count("; ")
    assert "Traceback" not in done.stderr
    assert "" == done.stdout
    assert set() == one.marked()
