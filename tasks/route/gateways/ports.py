"""Ports of 127.0.0.1 for gateways."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from tasks.effects.network import listener
from tasks.errors import PortTakenError

PORTS = range(29_000, 30_000)
"""Below those that Linux gives to clients (32,768 and up; ip_local_port_range in
docs.kernel.org/networking/ip-sysctl.html): while a gateway comes back from a crash, no client of anybody
is given its port."""


def free_port(known: Collection[int], taken: Callable[[int], bool] = listener) -> int:
    """Return a port that nobody listens on and that is none of `known`.

    Raises:
        PortTakenError: there is none.
    """
    # At random, so that two programs which choose at once rarely choose the same.
    for port in random.sample(PORTS, len(PORTS)):
        if port not in known and not taken(port):
            return port
    raise PortTakenError(
        f"every port of 127.0.0.1 from {PORTS[0]} to {PORTS[-1]}, where gateways listen, is taken",
        "no gateway was started",
        "end what holds them (`ss -ltnp` shows it)",
    )
