"""A set of files of one source: as many connections as help, each file handed on when it is whole.

The number of connections starts at one and grows eightfold while that makes the whole faster, so that a
server that is fast with one is not asked by sixteen, and a processor is not shared for nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

from tasks.errors import DigestMismatchError, SourceRefusedError
from tasks.pull.claim import stopped, unavailable
from tasks.pull.fetch.crew import Crew
from tasks.pull.fetch.item import Item, Wanted
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.partial import discard
from tasks.pull.fetch.web import AgainError, Web, host_of
from tasks.pull.fetch.worker import Explain, Worker
from tasks.pull.store import INTACT, short

TICK_S = 0.05
RAMP_S = 0.1
GROWTH = 8
WORTH_IT = 1.1
"""More are tried as long as the last ones gave a tenth more."""
FAST_BYTES_PER_S = 300_000_000
"""Beyond this the connections that there are keep a processor busy, and more of them would only share it."""
STALL_S = 20.0
STALL_BYTES = 1 << 16
"""Less than this in `STALL_S` counts as nothing: a server that drips is a server that stands."""
SYNC_S = 5.0
JOIN_S = 2.0
SHED_S = 1.0

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")

OnWhole = Callable[[Wanted, str], None]


@dataclass(frozen=True, slots=True)
class Fetching:
    """What a fetch is given beside the files."""

    web: Web
    line: Line
    explain: Explain
    tell: Callable[[int, str], None]
    subject: str = "files"
    stop: Event = field(default_factory=Event)
    quiet_s: float = 120.0
    tries: int = 6


def fetch(wanted: Sequence[Wanted], given: Fetching, on_whole: OnWhole) -> int:
    """Fetch files, hand each on as soon as it is whole and right, and return the bytes that crossed.

    `on_whole` is given the hex digits of the digest that was computed on the way.

    What is fetched stays beside the store when this ends early, and the next call goes on from there.

    Raises:
        SourceUnavailableError: the source does not answer, broke off or stands still.
        SourceRefusedError: it will not give the files, or a pin is none; a part is named by its digest.
        DigestMismatchError: it gave other bytes; those of that file are removed.
        StoppedError: `given.stop` was set.
        OSError: the disk says no.
    """
    for one in wanted:
        if one.size_bytes < 0 or not _DIGEST.fullmatch(one.digest):
            what = f"the digest or the size that is pinned for {one.path!r} is none"
            raise SourceRefusedError(what, INTACT, "correct the pin")
    crossed = handed = 0
    for files in _rounds(wanted):
        left = files
        while left:
            run = _Run([Item(one) for one in left], given, on_whole, handed)
            left = _through(run)
            crossed += run.crew.crossed_bytes
            handed = run.handed_bytes
    return crossed


def _through(run: _Run) -> list[Wanted]:
    """See a run through, and return the files to begin anew: what an earlier one left of them was wrong."""
    try:
        with run.given.line.user(run.host) as name:
            run.start(name)
            run.follow()
    except DigestMismatchError:
        if not run.inherited:
            raise
        return [item.wanted for item in run.left]
    finally:
        run.end()
    return []


def _rounds(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Yield the files, those with the same bytes one after the other: they would share a part file."""
    left = list(wanted)
    while left:
        first = {one.part: one for one in reversed(left)}
        yield [one for one in left if first[one.part] is one]
        left = [one for one in left if first[one.part] is not one]


class _Run:
    """One fetch while it goes on."""

    def __init__(self, items: list[Item], given: Fetching, on_whole: OnWhole, handed_bytes: int) -> None:
        self.given = given
        self.left = list(items)
        self.host = host_of(items[0].wanted.url)
        self.crew = Crew(items, target=1, tries=given.tries)
        self._items = items
        self._on_whole = on_whole
        self._over = Event()
        self._threads: list[threading.Thread] = []
        self._pace = _Pace(time.monotonic())
        self.handed_bytes = handed_bytes
        self.inherited = False
        self._shed_at = 0.0

    def start(self, name: object) -> None:
        """Get ready; connections are opened by `follow`."""
        given = self.given
        self._worker = Worker(self.crew, given.web, given.line, self.host, name, given.explain, self._over)
        self._begin(self._sync, "sync")

    def follow(self) -> None:
        """Watch until every file was handed on."""
        while self.left:
            self._staff()
            self._hand_on()
            if self.given.stop.wait(TICK_S if self.left else 0):
                raise stopped(self.given.subject)
            if self.crew.error is not None:
                self._hand_on()
                raise _said(self.crew.error)
            self._watch()

    def end(self) -> None:
        """Stop all connections; what was written stays, and nothing is written any more."""
        self._over.set()
        self.crew.close()
        deadline = time.monotonic() + JOIN_S
        while self._threads and time.monotonic() < deadline:
            # Again and again, for one that was just being opened may have escaped.
            for web in tuple(self._worker.webs):
                web.end()
            self._threads[-1].join(TICK_S)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        for item in self._items:
            item.close()
            if item.small:  # it is never gone on with
                discard(item.wanted.part)

    def _begin(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _staff(self) -> None:
        """Open connections up to the crew's target, as far as the line has some."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        # One connection knocks; the others follow when somebody opens.
        target = self.crew.target if self.crew.answered else 1
        while len(self._threads) <= target and self.crew.waiting():  # one of them syncs
            if not self.given.line.open(self.host, self._worker.name):
                return
            self._begin(self._worker.run, f"fetch {self.host}")

    def _hand_on(self) -> None:
        """Hand on what is whole and right, and only then end with what is not."""
        whole = [one for one in self.left if one.whole.is_set()]
        for item in whole:
            item.close()
            if item.error is None and item.rightly:
                self._on_whole(item.wanted, item.got_digest)
                discard(item.wanted.part)
                self.left.remove(item)
                self.handed_bytes += item.wanted.size_bytes
        faults = [(item, error) for item in self.left if (error := _fault(item)) is not None]
        if faults:
            # Bytes of an earlier process may be to blame, and this source may be right: then from nothing.
            self.inherited = all(item.inherited and item.error is None for item, _ in faults)
            raise faults[0][1]

    def _watch(self) -> None:
        """Adjust the number of connections, say how far it is, and end what stands still."""
        now, crossed, pace = time.monotonic(), self.crew.crossed_bytes, self._pace
        line, limit, paused_s = self.given.line, self.given.line.limit(), self.given.line.paused_s(self.host)
        # While all that is left is to read back and to sync, nothing has to come.
        waits = limit == 0 or paused_s > 0 or self.crew.idle()
        handed = len(self._items) - len(self.left)
        silent_s = pace.silence(now, crossed + handed * STALL_BYTES, limit, waits=waits)
        if pace.grows(now, crossed, limit) and self.crew.waiting():
            self.crew.target = min(GROWTH * self.crew.target, line.connections)
        self.crew.measured = self.crew.measured or pace.measured
        if silent_s > self.given.quiet_s:
            raise unavailable(f"{self.host} gave nothing for {silent_s:.0f} s")
        self._relieve(now, limit, waits=waits)
        stalled = silent_s > min(STALL_S, self.given.quiet_s / 2)
        note = f"stalled: no byte from {self.host} for {silent_s:.0f} s" if stalled else ""
        note = f"{self.host} asks to wait {paused_s:.0f} s" if paused_s > 1 else note
        self.given.tell(self.handed_bytes + sum(item.held_bytes for item in self.left), note)

    def _relieve(self, now: float, limit: int | None, *, waits: bool) -> None:
        """End connections that drip, and give one to another pull that has none."""
        window_s = min(STALL_S, self.given.quiet_s / 3)
        enough = limit is None or limit * window_s > 2 * STALL_BYTES * self.given.line.connections
        # A share that waits for the line is not slow itself.
        self.crew.hang_up(window_s, STALL_BYTES if enough and not waits else 0)
        if now - self._shed_at > SHED_S and self.given.line.must_yield(self.host, self._worker.name):
            self._shed_at = now
            self.crew.shed()

    def _sync(self) -> None:
        """Now and then, make what came survive a power loss."""
        while not self._over.wait(SYNC_S):
            for item in tuple(self.left):
                if item.partial is not None and not item.whole.is_set():
                    try:
                        item.partial.sync()
                    except OSError as error:  # the kernel says it once, so it must not be lost here
                        self.crew.fail(error)


class _Pace:
    """How fast it goes, and whether more connections made it faster."""

    def __init__(self, now: float) -> None:
        self._ramp_at, self._ramp_bytes, self._rate, self._flat = now, 0, 0.0, 0
        self._moved_at, self._moved_bytes = now, 0
        self.measured = False

    def silence(self, now: float, crossed: int, limit: int | None, *, waits: bool) -> float:
        """Return for how many seconds next to nothing came."""
        if waits or crossed - self._moved_bytes >= min(STALL_BYTES, limit or STALL_BYTES):
            self._moved_at, self._moved_bytes = now, crossed
        return now - self._moved_at

    def grows(self, now: float, crossed: int, limit: int | None) -> bool:
        """Whether more connections are worth a try."""
        if not self.measured and self._ramp_bytes == 0:
            self._ramp_at, self._ramp_bytes = now, crossed  # from the first byte on, not from the first try
            return False
        if now - self._ramp_at < RAMP_S or self._flat > 1:
            return False
        self.measured = True
        rate = (crossed - self._ramp_bytes) / (now - self._ramp_at)
        self._ramp_at, self._ramp_bytes = now, crossed
        enough = rate > FAST_BYTES_PER_S or (limit is not None and rate > 0.9 * limit)
        better = rate > WORTH_IT * self._rate
        self._rate = max(rate, self._rate)
        self._flat = 0 if better else self._flat + 1
        return better and not enough and crossed > 0


def _fault(item: Item) -> BaseException | None:
    """Return what is wrong with an item that is whole; wrong bytes are removed."""
    if not item.whole.is_set() or item.error is not None:
        return item.error
    if item.rightly:
        return None
    discard(item.wanted.part)
    return _mismatch(item)


def _mismatch(item: Item) -> DigestMismatchError:
    kind, _, pinned = item.wanted.digest.partition(":")
    kind = "sha256" if kind == "sha256" else "git sha1"
    return DigestMismatchError(
        f"{item.wanted.path} came with {kind} {short(item.got_digest)} instead of {short(pinned)}",
        INTACT,
        "pull again, or compare the pin with the source",
    )


def _said(error: BaseException) -> BaseException:
    return unavailable(error.what) if isinstance(error, AgainError) else error
