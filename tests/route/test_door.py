"""What is said of how clients come in, when that changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.route.door import FILE, changes, kept_of, note
from tasks.route.proxy.contract import Door
from tasks.route.rollout import roll_out
from tests.lab.routing import World, order

SHUT, OTHER = "0" * 64, "1" * 64
OPEN = Door(3030)
OPENED = "no token is asked for any more: whoever reaches the gateway may use it"


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (OPEN, OPEN, ()),
        (OPEN, replace(OPEN, token_sha256=SHUT), ("a token is asked for",)),
        (replace(OPEN, token_sha256=SHUT), OPEN, (OPENED,)),
        (
            replace(OPEN, token_sha256=SHUT),
            replace(OPEN, token_sha256=OTHER),
            ("another token is asked for",),
        ),
        (OPEN, replace(OPEN, certificate=Path("a.pem")), ("clients come by TLS",)),
        (replace(OPEN, certificate=Path("a.pem")), OPEN, ("clients come without TLS",)),
        (OPEN, Door(3031), ("the gateway moves from 127.0.0.1:3030 to 127.0.0.1:3031",)),
    ],
)
def test_what_is_said(tmp_path: Path, was: Door, now: Door, said: tuple[str, ...]) -> None:
    """Each difference in one clause; nothing where all is as it was."""
    note(tmp_path, kept_of(was, "haproxy"))

    assert changes(tmp_path, kept_of(now, "haproxy")) == said
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_another_kind_of_proxy(tmp_path: Path) -> None:
    """It is named, with the one before."""
    note(tmp_path, kept_of(OPEN, "front"))

    assert changes(tmp_path, kept_of(OPEN, "haproxy")) == ("haproxy takes the port from front",)


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"address": 1}'])
def test_where_nobody_knows(tmp_path: Path, content: bytes | None) -> None:
    """Nothing is made up."""
    if content is not None:
        (tmp_path / FILE).write_bytes(content)

    assert changes(tmp_path, kept_of(OPEN, "haproxy")) == ()


def test_a_run_that_opens_the_door_says_so(tmp_path: Path) -> None:
    """Though config and gateway are kept, the run did something; the next one did not."""
    world = World(tmp_path)
    shut = world.context(door=Door(3030, token_sha256=SHUT))
    roll_out(order("a"), shut)
    opened = roll_out(order("a"), world.context())
    again = roll_out(order("a"), world.context())

    assert (opened.change.kind, opened.change.reason) == ("replace", OPENED)
    assert again.change.kind == "keep"
