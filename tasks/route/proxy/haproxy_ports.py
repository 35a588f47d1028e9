"""Whether somebody has a port that the proxy is to listen on."""

from __future__ import annotations

import socket
import time

from tasks.errors import PortTakenError
from tasks.route.proxy.contract import Door
from tasks.route.proxy.haproxy_config import INTACT

ANY = {"*": "0.0.0.0"}
GONE_S = 1.0
POLL_S = 0.05


def refuse_taken(door: Door) -> None:
    """Refuse a port that somebody has.

    A HAProxy of ours whose parent was killed has it for a moment more, so it is asked again for a while.

    Raises:
        PortTakenError: somebody else has it.
    """
    deadline = time.monotonic() + GONE_S
    while reason := taken(door.bind, door.port):
        if time.monotonic() > deadline:
            raise PortTakenError(
                f"the proxy of the gateway cannot listen on {door.bind}:{door.port} ({reason})",
                f"whoever has the port is untouched, and {INTACT}",
                f"free it (`ss -ltnp 'sport = :{door.port}'` shows who holds it) or choose another port",
            )
        time.sleep(POLL_S)


def taken(bind: str, port: int) -> str:
    """Return why a port cannot be listened on, "" where it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            ANY.get(bind, bind), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        return error.strerror or str(error)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            return error.strerror or str(error)
    return ""
