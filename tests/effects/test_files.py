"""Files that other processes read: their modes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.effects.files import write_atomic


@pytest.fixture
def _narrow() -> Iterator[None]:
    """Be somebody whose new files nobody else reads."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize(("mode", "becomes"), [(0o664, 0o664), (0o600, 0o600), (None, 0o600)])
def test_modes(mode: int | None, becomes: int, tmp_path: Path) -> None:
    """A mode that was asked for is the file's, whatever the umask; without one, the umask counts."""
    write_atomic(tmp_path / "a", "text", mode=mode)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == becomes
