"""Which port a gateway gets."""

from __future__ import annotations

import pytest

from tasks.errors import PortTakenError
from tasks.route.gateways.ports import PORTS, free_port
from tasks.route.gateways.process import port_in

CLIENTS_FROM = 32_768


def test_the_only_one_that_is_free() -> None:
    """Neither one that somebody listens on, nor one that another gateway is to come back to."""
    busy = set(PORTS) - {29_500, 29_501}

    assert {29_501} == {free_port({29_500}, lambda port: port in busy) for _ in range(5)}
    assert max(PORTS) < CLIENTS_FROM


def test_none_is_free() -> None:
    """It is said which were looked at."""
    with pytest.raises(PortTakenError, match="from 29000 to 29999, where gateways listen, is taken"):
        free_port((), lambda _: True)


@pytest.mark.parametrize(
    ("command", "port"),
    [(("python", "--port", "29001"), 29_001), (("python", "--port"), 0), (("--port", "x"), 0), ((), 0)],
)
def test_the_port_of_a_command(command: tuple[str, ...], port: int) -> None:
    """0 where it has none."""
    assert port == port_in(command)
