"""The hub in a process of its own: to be killed, and so that its work is not the client's.

python -m tests.lab.hub --root DIR    DIR/org/name/files.. ; prints its endpoint when it listens
GET  /_stat                           the counters
POST /_ctl                            a `Control`

with HubProcess(root, link_bytes_per_s=50e6) as hub:
    hub.fail("cdn", Drop(at=70_000))
    ... hub.endpoint ... hub.stat()["sent_bytes"] ... hub.kill()
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tests.lab.hub_faults import FOREVER, Fault, Order, What, Where, fault_of
from tests.lab.hub_files import REVISION, Repo

if TYPE_CHECKING:
    from tests.lab.hub import HubLab

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "ranges",
    "cdn_host",
    "cache_redirect",
    "page_size",
    "bytes_per_s",
    "link_bytes_per_s",
    "latency_s",
    "clock_s",
    "lifetime_s",
    "lifetime_requests",
    "buffer_bytes",
)
Setting = float | bool | str | None


class Control(msgspec.Struct, omit_defaults=True):
    """What a test tells a hub: all in one go, in this order."""

    clear: bool = False
    reset: bool = False
    expire: bool = False
    cut: bool = False
    settings: dict[str, Setting] = {}
    fail: list[Order] = []


def control(lab: HubLab, told: bytes) -> None:
    """Do what a test says."""
    order = msgspec.json.decode(told, type=Control)
    if order.clear:
        lab.faults.clear()
    if order.reset:
        lab.reset()
    if order.expire:
        lab.expire()
    if order.cut:
        lab.cut()
    for name in set(order.settings) & set(SETTINGS):
        setattr(lab, name, order.settings[name])
    for one in order.fail:
        lab.then(one.where, one.what, times=one.times, skip=one.skip, only=one.only)


def stat(lab: HubLab) -> bytes:
    """Return the counters as JSON."""
    names = ("requests", "sent_bytes", "sent", "now", "peak", "opened")
    told: dict[str, object] = {name: getattr(lab, name) for name in names}
    told["tokens"] = {host: sorted(tokens) for host, tokens in lab.tokens.items()}
    told["log"] = [vars(asked) for asked in list(lab.log)]
    return json.dumps(told).encode()


class HubProcess:
    """A hub over a folder, in a process of its own. `settings` are those of `HubLab`."""

    def __init__(
        self, root: Path, *, port: int = 0, revision: str = REVISION, token: str = "", **settings: Setting
    ) -> None:
        self.command = [sys.executable, "-m", "tests.lab.hub", "--root", str(root), "--port", str(port)]
        self.command += ["--revision", revision, "--token", token, "--settings", json.dumps(settings)]
        self.endpoint = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.endpoint.rpartition(":")[2])

    def start(self) -> None:
        """Start it; after `kill`, start it again at the same port."""
        if self.endpoint:
            self.command[self.command.index("--port") + 1] = str(self.port)
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, "the hub did not start"

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stat(self) -> dict[str, Any]:
        """Return its counters: those of `HubLab`, and `log` with a dict for each request."""
        told: dict[str, Any] = json.loads(self._ask("GET", "/_stat"))
        return told

    def tell(self, order: Control) -> None:
        """Tell it what to do."""
        self._ask("POST", "/_ctl", msgspec.json.encode(order))

    def fail(
        self, where: Where, what: What, *, times: int = FOREVER, skip: int = 0, only: str | None = None
    ) -> None:
        """Add a fault; `tell(Control(clear=True))` takes all away."""
        fault: Fault = fault_of(what)
        self.tell(Control(fail=[Order(where, fault, times, skip, only)]))

    def set(self, **settings: Setting) -> None:
        """Change settings."""
        self.tell(Control(settings=settings))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            return answer.read()
        finally:
            connection.close()


def repos_in(root: Path, revision: str, token: str) -> dict[str, Repo]:
    """Return the repositories in a folder, `org/name` each."""
    return {
        str(folder.relative_to(root)): Repo(
            {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()},
            revision,
            token or None,
        )
        for folder in root.glob("*/*")
        if folder.is_dir()
    }


def main() -> None:
    """Serve a folder until killed."""
    from tests.lab.hub import HubLab  # noqa: PLC0415  # hub.py's handler needs this module

    parser = argparse.ArgumentParser(prog="python -m tests.lab.hub")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--revision", default=REVISION)
    parser.add_argument("--token", default="", help="gates every repository")
    parser.add_argument("--settings", default="{}", help=f"JSON of {', '.join(SETTINGS)}")
    options = parser.parse_args()
    repos = repos_in(options.root, options.revision, options.token)
    with HubLab(repos, listen=options.port, **json.loads(options.settings)) as lab:
        for repo in repos.values():
            for data in repo.files.values():
                lab.shelf.blob(data)
        sys.stdout.write(lab.endpoint + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
