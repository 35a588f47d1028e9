"""The process: takes the port, serves until SIGTERM, then finishes what is in flight and exits 0."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
from types import FrameType

from tasks.errors import PortTakenError, ProvisionError
from tasks.serve.embedded.engine import check_files, load
from tasks.serve.embedded.options import DRAIN_S, HOST, Options, parse

log = logging.getLogger("embedded")
FAILED = 5
KEEP_ALIVE_S = 120
"""Longer than clients keep idle connections (90 s is common), so that none sends into a closed one."""


def main() -> int:
    """Serve; return the exit code."""
    options = parse()
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%FT%T%z",
    )
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    try:
        check_files(options)
        with _listen_on(options.port) as listener:
            return _serve(options, listener)
    except ProvisionError as error:
        log.error("%s", error)  # noqa: TRY400  # the sentence is meant to be read, its origin is not
        return error.exit_code


def _serve(options: Options, listener: socket.socket) -> int:
    import uvicorn  # noqa: PLC0415  # a refusal must not wait for these two

    from tasks.serve.embedded.app import Service, build  # noqa: PLC0415

    reasons: list[str] = []

    def give_up(reason: str) -> None:
        reasons.append(reason)
        log.error("%s", reason)
        server.should_exit = True

    service = Service(options, load, give_up)
    config = uvicorn.Config(
        build(service),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = uvicorn.Server(config)
    log.info("started model=%s url=http://%s:%d", options.model, HOST, options.port)
    try:
        server.run(sockets=[listener])
    except SystemExit as ended:
        # uvicorn raises SIGTERM again after it has drained; one that was obeyed is no failure.
        if ended.code:
            raise
    log.info("stopped")
    return FAILED if reasons else 0


def _listen_on(port: int) -> socket.socket:
    # With the protocol left at 0, asyncio does not set TCP_NODELAY, and every answer waits 40 ms for an ACK.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        what = (
            "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        )
        raise PortTakenError(
            f"port {port} on {HOST} {what}", "no server was started", "free it or give another --port"
        ) from None
    return listener


def _exit_cleanly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
