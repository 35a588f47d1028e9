"""HAProxy as the proxy of the gateway: files and a start, and after that its sockets.

    <folder>/
      haproxy.cfg    how clients come in (haproxy_config.py)
      targets.map    where requests go (haproxy_targets.py): what a HAProxy that starts anew begins with
      haproxy.lua    the counts
      admin.sock     mode 600; `echo "show stat" | socat admin.sock -`
      master.sock    the same, of its parent process
      proxy.lock     held while any of this is changed

A flip replaces HAProxy's table in one step, and then the file. A crash between the two leaves HAProxy as the
truth, and whoever asks next (`active`, `point`) lets the file say the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.effects.files import try_lock
from tasks.errors import ProvisionError, RouteError
from tasks.route.proxy.contract import Count, Door, Target
from tasks.route.proxy.haproxy_config import CONFIG, INTACT, SCRIPT, mark_of, port_of, render
from tasks.route.proxy.haproxy_files import Files, digest, script
from tasks.route.proxy.haproxy_ports import refuse_taken
from tasks.route.proxy.haproxy_socket import SilentError, Sockets
from tasks.route.proxy.haproxy_starter import Starter
from tasks.route.proxy.haproxy_targets import TARGETS, Table, refuse_wrong

POLL_S = 0.02
FINISH_S = 25.0
"""How long `stop` waits for requests in flight, as the front does."""
TRIES = 3
LOCK = "proxy.lock"
TRIED = f"{CONFIG}.tried"


@dataclass(frozen=True, slots=True)
class HaProxy:
    """HAProxy before the gateways, as a process or in a container.

    Args:
        door: How clients come in.
        folder: Where its files are.
        starter: What brings it up.
        deadline_s: How long it may take to start, or to follow.
        patience_s: How long `point` waits where every slot has requests in flight.
    """

    door: Door
    folder: Path
    starter: Starter
    deadline_s: float = 20.0
    patience_s: float = 60.0

    @property
    def kind(self) -> str:
        """Its name."""
        return "haproxy"

    # --- looking -------------------------------------------------------------------------------

    def active(self) -> Target | None:
        """Ask HAProxy, and let the file say the same; the file alone where it does not run."""
        with contextlib.suppress(SilentError):
            if self.starter.running():
                table = self._sockets.table()
                if table.target and table != self._files.table():
                    self._heal()
                return table.target
        return self._files.table().target

    def runs(self) -> bool:
        """Whether it answers."""
        return self.starter.running() and self._sockets.mark() != ""

    def drained(self, target: Target, timeout_s: float) -> bool:
        """Ask again and again how many requests are in flight there."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(SilentError):
                if not self.starter.running() or self._sockets.in_flight_at(target.name) == 0:
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)

    def counts(self) -> tuple[Count, ...]:
        """Ask for them."""
        with contextlib.suppress(SilentError):
            return self._sockets.counts()
        return ()

    # --- changing ------------------------------------------------------------------------------

    def point(self, target: Target) -> None:
        """Start it with the target, or bring the door up to date and flip."""
        refuse_wrong(target)
        with self._changing():
            for left in reversed(range(TRIES)):
                if not self._answers() or not self.starter.fits(self.door.certificate):
                    self._begin(target)
                    return
                try:
                    self._follow()
                    self._flip(target)
                except SilentError as error:
                    if not left:
                        raise self._failure(f"went away while it was changed ({error})") from None
                else:
                    return

    def stop(self) -> None:
        """Take nothing new, let what is in flight end for a while, and end it."""
        self._finish()
        self.starter.stop()

    def _finish(self) -> None:
        with contextlib.suppress(SilentError):
            if self.starter.running():
                self._sockets.ask("disable frontend public")
                self._until(self._is_idle, FINISH_S)

    # --- starting ------------------------------------------------------------------------------

    def _answers(self) -> bool:
        """Whether it answers, now or once it has started."""
        self._until(lambda: self._sockets.mark() != "" or not self.starter.running(), self.deadline_s)
        return self.runs()

    def _begin(self, target: Target) -> None:
        """Write the files and start it, in place of one of another make, or undo what was done."""
        ran = self.starter.running()
        if not ran:
            refuse_taken(self.door)
        before, table = self._files.saved(), self._files.table()
        wanted = table.pointed(table.slot_for(target, {}), target)
        try:
            config = self._config()
            self._try(config)
            self._files.write(CONFIG, config)
            self._files.write(TARGETS, wanted.render())
            self._finish()
            self.starter.start(self.door.certificate)
            self._until(lambda: self._is(config) or not self.starter.running(), self.deadline_s)
            self._refuse_other(config, "does not start")
        except BaseException:
            self._files.put_back(before)
            with contextlib.suppress(ProvisionError):
                if ran:
                    self.starter.start(self.door.certificate)
                else:
                    self.starter.stop()
            raise

    def _follow(self) -> None:
        """Let it take the config that the door asks for. No request is lost by that."""
        before, running, config = self._files.saved(), self._sockets.mark(), self._config()
        if not running:
            raise SilentError("it does not say which config it has")
        if mark_of(config) == running:
            self._files.write(SCRIPT, script())
            self._files.write(CONFIG, config)
            return
        if port_of(running) != self.door.port:
            refuse_taken(self.door)
        try:
            self._try(config)
            self._files.write(CONFIG, config)
            failed = self._sockets.failed_reloads()
            self._sockets.master("reload")
            self._until(lambda: self._is(config) or self._failed_again(failed), self.deadline_s)
            self._refuse_other(config, "does not take its new config")
        except BaseException:
            self._files.put_back(before)
            raise

    # --- flipping ------------------------------------------------------------------------------

    def _flip(self, target: Target) -> None:
        """Replace its table, and then the file; should it start anew between the two, once more."""
        deadline = time.monotonic() + self.deadline_s + self.patience_s
        while True:
            try:
                before = self._sockets.table()
                wanted = self._table_with(target)
                if before != wanted:
                    self._sockets.use(wanted)
                self._write_down(wanted, before)
                if self._sockets.goes_by(wanted):
                    return
                why = "it was started anew"
            except SilentError as error:
                if not self.starter.running():
                    raise
                why = str(error)
            if time.monotonic() > deadline:
                raise self._failure(f"does not follow ({why})")
            time.sleep(POLL_S)

    def _table_with(self, target: Target) -> Table:
        """Return the table that sends requests to `target`, once there is a slot for it."""
        deadline = time.monotonic() + self.patience_s
        while True:
            table = self._sockets.table()
            if slot := table.slot_for(target, self._sockets.in_flight()):
                return table.pointed(slot, target)
            if time.monotonic() > deadline:
                raise RouteError(
                    f"every gateway of before still has requests in flight after {self.patience_s:g} s",
                    INTACT,
                    "run it again when they have ended",
                )
            time.sleep(POLL_S)

    def _write_down(self, wanted: Table, before: Table) -> None:
        try:
            self._files.write(TARGETS, wanted.render())
        except OSError as error:
            self._sockets.use(before)
            raise self._failure(f"cannot keep where requests go ({error})") from error

    def _heal(self) -> None:
        """Write down what HAProxy does, unless somebody is about to change it."""
        with try_lock(self.folder / LOCK) as mine:
            if mine:
                self._files.write(TARGETS, self._sockets.table().render())

    # --- how -----------------------------------------------------------------------------------

    @property
    def _sockets(self) -> Sockets:
        return Sockets(self.folder)

    @property
    def _files(self) -> Files:
        return Files(self.folder)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _config(self) -> str:
        """Return the config for the door."""
        certificate, found = "", ""
        if self.door.certificate is not None:
            certificate, found = (
                self.starter.certificate(self.door.certificate),
                digest(self.door.certificate),
            )
        return render(self.door, script=script(), certificate=certificate, certificate_hash=found)

    def _try(self, config: str) -> None:
        """Let HAProxy read a config beside the one that is in use."""
        self._files.write(SCRIPT, script())
        if not (self.folder / TARGETS).exists():
            self._files.write(TARGETS, Table().render())
        self._files.write(TRIED, config)
        objection = self.starter.objection(TRIED)
        (self.folder / TRIED).unlink()
        if objection:
            raise RouteError(f"HAProxy does not take its config: {objection}", INTACT, "change what it names")

    def _is(self, config: str) -> bool:
        return self._sockets.mark() == mark_of(config)

    def _failed_again(self, failed: int) -> bool:
        with contextlib.suppress(SilentError):  # its parent is away for a moment, while it reloads
            return self._sockets.failed_reloads() > failed
        return False

    def _is_idle(self) -> bool:
        return not any(self._sockets.in_flight().values()) and not self._sockets.old_workers()

    def _until(self, condition: Callable[[], bool], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition() and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _refuse_other(self, config: str, what: str) -> None:
        if not self._is(config):
            raise self._failure(what)

    def _failure(self, what: str) -> RouteError:
        words = self.starter.log_tail()
        return RouteError(f"HAProxy {what} (its log ends: {words})", INTACT, f"read {self.folder / CONFIG}")
