"""`pmoves plan` as it is called: its caps, and how its text suits what it is written to."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.cli_plan import print_plan
from flows.wants import Wants
from tasks.contracts import Plan, Wish
from tasks.errors import UsageError
from tests.lab.bundles import decoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

GIB = 1 << 30
THERE = ("plan", "--as", "rtx-3090-ti")
SHELF = shelf_of(
    (decoder("chat", roles=("llm",), sizes_mib=(6000,)),),
    (Wish(role="llm", models=("chat",), context=8192, may=()),),
)


class Terminal(TextIOWrapper):
    """Standard output that says that a person reads it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def plan() -> Plan:
    """Return a plan with one model on one card."""
    return planned_on(make_host(cards=(device(),)), SHELF)


def printed(monkeypatch: pytest.MonkeyPatch, *, encoding: str, tty: bool = False, columns: int = 100) -> str:
    """Return what is printed of a plan on an output with that encoding and width."""
    held = BytesIO()
    stream = (Terminal if tty else TextIOWrapper)(held, encoding=encoding, write_through=True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        print_plan(plan(), Wants("lab"), as_json=False)
    return held.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_cannot_write_blocks_gets_ascii_bars(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """No sign fails to be written, and none becomes a question mark."""
    text = printed(monkeypatch, encoding=encoding)

    assert text.isascii()
    assert "####" in text
    assert "?" not in text


def test_an_output_that_can_write_blocks_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes stand in for them nowhere."""
    text = printed(monkeypatch, encoding="utf-8")

    assert "████" in text
    assert "####" not in text


@pytest.mark.parametrize(
    ("tty", "columns", "table"), [(True, 70, False), (True, 200, True), (False, 70, True)]
)
def test_a_table_is_broken_up_only_where_a_person_reads_it(
    monkeypatch: pytest.MonkeyPatch,
    tty: bool,  # noqa: FBT001  # a column of the table
    columns: int,
    table: bool,  # noqa: FBT001  # the same
) -> None:
    """A pipe gets a row a role, however narrow the terminal is from which it was started."""
    lines = printed(monkeypatch, encoding="utf-8", tty=tty, columns=columns).splitlines()

    assert any(line.startswith("ROLE ") for line in lines) is table


def budgets(*options: str) -> dict[str, int]:
    """Return what a plan for a host with one card may use of each device."""
    done = CliRunner().invoke(app, [*THERE, *options, "--json"])
    assert done.exit_code == 0, done.output
    return {one["device"]: one["budget_bytes"] for one in json.loads(done.stdout)["devices"]}


def test_each_cap_is_that_of_its_own_memory() -> None:
    """--vram caps each card and --ram main memory; what has no cap keeps all that it has."""
    free = budgets()

    assert min(free.values()) > 22 * GIB
    assert budgets("--vram", "12GiB") == {**free, "gpu0": 12 * GIB}
    assert budgets("--ram", "9GiB") == {**free, "cpu": 9 * GIB}
    assert budgets("--vram", "12GiB", "--ram", "9GiB") == {"gpu0": 12 * GIB, "cpu": 9 * GIB}


@pytest.mark.parametrize("option", ["--vram", "--ram"])
@pytest.mark.parametrize("command", [THERE, ("plan",), ("provision", "--dry-run")], ids=" ".join)
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_cap_is_refused_by_its_own_name(command: tuple[str, ...], option: str, text: str) -> None:
    """Nothing is planned without the cap that somebody meant to set."""
    done = CliRunner().invoke(app, [*command, option, text])

    assert isinstance(done.exception, UsageError)
    assert done.exception.what == f"{option} is empty"
    assert done.stdout == ""


def test_an_empty_name_of_another_host_is_not_this_host() -> None:
    """An unset variable does not plan the machine that it is typed on."""
    done = CliRunner().invoke(app, ["plan", "--as", ""])

    assert isinstance(done.exception, UsageError)
    assert done.exception.what == "--as is empty"
