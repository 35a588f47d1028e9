"""The whole bundle against the disks that hold it, before byte one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import NoRoomError
from tasks.pull.resolve import verdict
from tasks.pull.resolve.resolve import Resolved
from tasks.pull.resolve.verdict import Demand, demands, require
from tests.lab.weights import pinned, planned

GIB = 1 << 30


def wanted(name: str, size_bytes: int, folder: Path | None, *, revision: str = "a" * 40) -> Resolved:
    """Return a model of which `size_bytes` are missing."""
    return Resolved(replace(planned(pinned(revision=revision)), model=name), size_bytes, folder)


def test_one_disk_takes_all_models(tmp_path: Path) -> None:
    """Two folders of one file system are one demand, though neither is there yet."""
    found = demands([
        wanted("one", 3, tmp_path / "hub", revision="a" * 40),
        wanted("two", 4, tmp_path / "ollama/models", revision="b" * 40),
    ])  # fmt: skip

    assert [(one.models, one.missing_bytes) for one in found] == [(("one", "two"), 7)]


def test_each_disk_has_a_verdict_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders on two file systems are two demands."""
    monkeypatch.setattr(verdict, "_device", lambda folder: len(folder.parts))

    found = demands([wanted("one", 3, tmp_path / "hub"), wanted("two", 4, tmp_path / "ollama/models")])

    assert [(one.models, one.missing_bytes) for one in found] == [(("one",), 3), (("two",), 4)]


def test_a_model_is_counted_once(tmp_path: Path) -> None:
    """Two roles that the same weights play need them once."""
    found = demands([wanted("one", 3, tmp_path), wanted("one", 3, tmp_path)])

    assert [one.missing_bytes for one in found] == [3]


def test_what_lies_elsewhere_is_not_counted_here() -> None:
    """An Ollama whose folder cannot be seen has a disk of its own."""
    assert demands([wanted("one", 3, None)]) == ()


@pytest.mark.parametrize(
    ("missing", "free", "fits"),
    [
        (0, 0, True),
        (GIB, 2 * GIB, True),
        (GIB, 2 * GIB - 1, False),
        (100 * GIB, 102 * GIB, True),
        (100 * GIB, 102 * GIB - 1, False),
    ],
)
def test_margin(missing: int, free: int, *, fits: bool) -> None:
    """A gibibyte or a fiftieth stays free, and nothing that is there already needs a margin."""
    assert Demand(Path("/store"), ("one",), missing, free).fits is fits


def test_too_small_a_disk_is_refused_with_all_numbers() -> None:
    """The refusal names the models, what they need, the margin, the disk and what it has."""
    small = Demand(Path("/store"), ("one", "two"), 60 * GIB, 10 * GIB)

    with pytest.raises(NoRoomError) as caught:
        require([Demand(Path("/other"), (), 0, 0), small])

    assert str(caught.value) == (
        "2 models (one and two) still need 60.0 GiB and 1.2 GiB of margin on the disk of /store, which has"
        " 10.0 GiB free; nothing was downloaded; make room there (`pmoves gc` shows what no record needs), or"
        " take a larger disk."
    )
