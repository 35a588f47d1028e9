"""The current profile, shared with PMOVES' own tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import chosen
from tasks.errors import StateFolderError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """The file has the key and the place that PMOVES reads."""
    path = chosen.write(tmp_path, "jetson")

    assert tmp_path / ".pmoves/profile.json" == path
    assert {"profile": "jetson"} == json.loads(path.read_text())
    assert "jetson" == chosen.read(tmp_path)


def test_what_else_the_file_holds_stays(tmp_path: Path) -> None:
    """Other tools' keys survive."""
    chosen.path_below(tmp_path).parent.mkdir()
    chosen.path_below(tmp_path).write_text('{"profile": "old", "theme": "dark"}')

    chosen.write(tmp_path, "jetson")

    assert {"profile": "jetson", "theme": "dark"} == json.loads(chosen.path_below(tmp_path).read_text())


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"profile": 3}'])
def test_a_file_that_cannot_be_read_names_no_profile(text: str, tmp_path: Path) -> None:
    """A broken file is like none."""
    chosen.path_below(tmp_path).parent.mkdir()
    chosen.path_below(tmp_path).write_text(text)

    assert chosen.read(tmp_path) is None


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """One sentence, and the profile stays."""
    (tmp_path / ".pmoves").write_text("a file where the folder should be")

    with pytest.raises(StateFolderError, match="the current profile stays as it was"):
        chosen.write(tmp_path, "jetson")
