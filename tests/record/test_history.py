"""The journal: one line a run, whatever a crash or another version left."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.contracts import NOT_ASKED, RunRecord
from tasks.errors import StateFolderError
from tasks.record import history
from tests.lab.hosts import card, make_host

OLD = (
    "host", "seen_at", "system", "cpu", "memory", "disks", "accelerators", "board", "container_engine", "hub",
    "ollama_library",
)  # fmt: skip
OLD_CARD = (
    "vendor", "name", "uuid", "memory_total_bytes", "memory_free_bytes", "compute_capability", "driver",
)  # fmt: skip


def vars_of(value: object) -> Any:  # noqa: ANN401  # JSON has many shapes
    """Write a record as JSON has it."""
    return json.loads(msgspec.json.encode(value))


RECORD = RunRecord(
    run="r1",
    version="0.1.0",
    host="lab-host",
    started_at="2026-11-23T00:00:00+00:00",
    seconds=1.0,
    outcome="changed",
    error="",
    flow_run="",
    profile_wanted="auto",
    facts=make_host(),
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Facts, unknowns and tuples survive the file."""
    history.append(tmp_path / "history.jsonl", RECORD)

    assert history.History((RECORD,), 0) == history.read(tmp_path / "history.jsonl")


def test_a_line_from_before_a_field_was_known_is_read(tmp_path: Path) -> None:
    """What older versions did not look for is marked as not asked, and the run is still there."""
    path = tmp_path / "history.jsonl"
    facts = {name: vars_of(getattr(make_host(), name)) for name in OLD}
    facts["accelerators"] = [{name: vars_of(getattr(card(), name)) for name in OLD_CARD}]
    path.write_text(json.dumps({**vars_of(RECORD), "facts": facts}) + "\n")

    (record,) = history.read(path).records

    assert record.facts is not None
    assert isinstance(record.facts.accelerators, tuple)
    assert NOT_ASKED == record.facts.accelerators[0].memory_reserved_bytes
    assert "unknown" == record.facts.engine_gpu.style


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    """A host without runs has no error."""
    assert history.History((), 0) == history.read(tmp_path / "none.jsonl")


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    """A crash in the middle of a line neither hides the runs before nor those after."""
    path = tmp_path / "history.jsonl"
    history.append(path, RECORD)
    with path.open("a") as stream:
        stream.write('{"run": "r2", "ver')
    history.append(path, dataclasses.replace(RECORD, run="r3"))

    found = history.read(path)

    assert ["r1", "r3"] == [one.run for one in found.records]
    assert 1 == found.unreadable


def test_the_last_good_run_is_the_newest_that_ended_well(tmp_path: Path) -> None:
    """Failed and refused runs are passed over."""
    path = tmp_path / "history.jsonl"
    for run, outcome in (("a", "changed"), ("b", "nothing to do"), ("c", "failed"), ("d", "refused")):
        history.append(path, dataclasses.replace(RECORD, run=run, outcome=outcome))  # type: ignore[arg-type]

    good = history.read(path).last_good()

    assert good is not None
    assert "b" == good.run


def test_a_journal_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """Rather than an empty history, or a traceback."""
    (tmp_path / "history.jsonl").mkdir()

    with pytest.raises(StateFolderError, match=r"history\.jsonl cannot be read \(.+\); it is as it was"):
        history.read(tmp_path / "history.jsonl")
