"""Who fetches what: hands shares of files to connections, and counts what went wrong. Thread-safe."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from tasks.pull.fetch.blocks import BLOCK_BYTES, SHORTEST_BLOCKS
from tasks.pull.fetch.item import Item, Share

BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
KNOCKS = 3
"""Tries at a host that has not answered once; another source may be waiting."""
IDLE_S = 0.02
MOST_RESTARTS = 1
MOST_HANG_UPS = 3
"""Per file: on a line where all connections crawl, hanging up would only lose what they have."""
FEELERS = 1 << 20
"""So many shares are reckoned with before it is known how fast it goes: they are short then."""
YOUNG_S = 2.0
TAIL_S = 10.0
"""A share that needs longer than this is halved for whoever has nothing to do, however short it is."""


class Crew:
    """The shares of a set of files. `target` is how many connections should work."""

    def __init__(self, items: Sequence[Item], *, target: int, tries: int) -> None:
        self.items = items
        self.target = target
        self.crossed_bytes = 0
        self.answered = False
        self.measured = False
        self.error: BaseException | None = None
        self.shares: list[Share] = []
        self.lock = threading.Lock()
        self._tries = tries
        self._first = 0
        self._knocks = 0
        self._knock_at = 0.0
        self._over = False

    def next_share(self) -> Share | None:
        """Take what to fetch next; None where there is nothing for now."""
        with self.lock:
            share = None if self._over else self._fresh() or self._tail()
            if share is not None:
                share.started = time.monotonic()
                share.seen = (share.started, 0)
                share.item.busy += 1
                self.shares.append(share)
            return share

    def idle(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        with self.lock:
            return self.error is not None or not any(self._open(item) for item in self.items[self._first :])

    def waiting(self) -> bool:
        """Whether more connections would have something to do."""
        with self.lock:
            now = time.monotonic()
            return self._knock_at <= now and any(
                item.ready_at <= now and (not item.started or item.queue.blocks)
                for item in self.items[self._first :]
                if not item.whole.is_set()
            )

    def done(self, share: Share) -> None:
        """Take a share back that was fetched, or in part; the rest is handed out again."""
        with self.lock:
            self.shares.remove(share)
            share.item.busy -= 1
            if share.left and not share.item.whole.is_set():
                share.item.queue.give_back((share.at, share.end))

    def progressed(self, share: Share, size_bytes: int, whole: int = 0) -> None:
        """Count bytes that arrived; with them the share's blocks before `whole` are on disk."""
        run, restarts = None, 0
        with self.lock:
            self.crossed_bytes += size_bytes
            share.got_bytes += size_bytes
            if share.at < whole and not share.cut:
                run = share.at, min(whole, share.end)
                share.item.marked(run)
                restarts = share.item.restarts
                share.at, share.moved, share.item.failures = run[1], True, 0
        if run is not None:
            share.hand_over(run, restarts)

    def stumbled(self, share: Share, wait_s: float, error: BaseException) -> None:
        """Count a failure of a file; the last of too many in a row ends the whole.

        Connections that were at it together fail together, and that counts once.
        """
        with self.lock:
            item, now = share.item, time.monotonic()
            if share.moved:
                item.failures, item.failed_at = 1, now
            elif share.started >= item.failed_at:
                item.failures, item.failed_at = item.failures + 1, now
            failures, tries = item.failures, self._tries
            if not self.answered:  # then it is about the host, whatever the file
                self._knocks += 1
                failures, tries = self._knocks, min(self._tries, KNOCKS)
            if failures >= tries:
                self.error = self.error or error
            backoff = min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** max(0, failures - 1))
            jitter = random.uniform(0.5, 1.0)  # noqa: S311  # spreads tries, guards nothing
            ready_at = now + max(wait_s, backoff * jitter)
            item.ready_at = max(item.ready_at, ready_at)
            if not self.answered:
                self._knock_at = ready_at

    def fail(self, error: BaseException) -> None:
        """End the whole."""
        with self.lock:
            self.error = self.error or error

    def close(self) -> None:
        """Hand out nothing more; when this returns, nothing is written any more."""
        with self.lock:
            self._over = True
            shares = tuple(self.shares)
        for share in shares:
            share.give_up()

    def restarts(self, share: Share, etag: str) -> bool:
        """Note the ETag that came. Where the source has other bytes now, the file is fetched anew."""
        with self.lock:
            item = share.item
            same = not item.etag or not etag or etag == item.etag
            if same or share.cut or item.restarts >= MOST_RESTARTS:
                item.etag = item.etag or etag
                return False
            for other in self.shares:
                if other.item is item:
                    other.give_up()
                    other.at = other.end = 0
            item.restart()
            return True

    def alone(self, share: Share) -> bool:
        """Note that a file comes without ranges; only one connection can fetch it then, the last one."""
        with self.lock:
            item = share.item
            item.ranges = False
            if item.busy > 1:
                share.cut = True
                return False
            item.queue.give_back((share.at, share.end))
            share.end = share.at
            return True

    def goes_on(self, share: Share) -> bool:
        """Give a share that has all of a file its next run of absent blocks, if there is one."""
        with self.lock:
            run = None if share.cut else share.item.queue.take(1)
            if run is not None:
                share.at, share.end = run
            return run is not None

    def shed(self) -> None:
        """Let the longest share end with its block, so that its connection comes free."""
        with self.lock:
            able = [one for one in self.shares if one.item.ranges and not one.cut and one.left > 1]
            longest = max(able, key=lambda one: one.left, default=None)
            if longest is not None:
                longest.item.queue.give_back(longest.shorten(longest.at + 1))

    def hang_up(self, window_s: float, least_bytes: int) -> None:
        """End connections that gave less than `least_bytes` in `window_s`; others may do better."""
        now = time.monotonic()
        with self.lock:
            slow = []
            for share in self.shares:
                if share.got_bytes - share.seen[1] >= least_bytes or share.item.hung_up >= MOST_HANG_UPS:
                    share.seen = (now, share.got_bytes)
                elif now - share.seen[0] > window_s and not share.cut:
                    share.item.hung_up += 1
                    slow.append(share)
        for share in slow:
            share.give_up()
            share.hang_up()

    def _fresh(self) -> Share | None:
        now = time.monotonic()
        while self._first < len(self.items) and self.items[self._first].whole.is_set():
            self._first += 1
        for item in self.items[self._first :] if self._knock_at <= now else ():
            if item.whole.is_set() or item.ready_at > now or (item.busy and not item.ranges):
                continue
            item.started = True
            run = item.queue.take(self.target if self.measured else FEELERS)
            if run is not None:
                return Share(item, *run)
        return None

    def _tail(self) -> Share | None:
        """Take half of what the longest share still has to do, so that nobody waits for the slowest."""
        now = time.monotonic()
        able = [one for one in self.shares if one.item.ranges and not one.cut and _is_long(one, now)]
        longest = max(able, key=lambda one: one.left, default=None)
        if longest is None:
            return None
        return Share(longest.item, *longest.shorten(longest.end - longest.left // 2))

    @staticmethod
    def _open(item: Item) -> bool:
        return not item.whole.is_set() and (not item.started or item.busy > 0 or item.queue.blocks > 0)


def _is_long(share: Share, now: float) -> bool:
    if share.item.ready_at > now:
        return False
    if share.left >= 2 * SHORTEST_BLOCKS:
        return True
    age_s = now - share.started
    return share.left > 1 and age_s > YOUNG_S and share.left * BLOCK_BYTES * age_s > TAIL_S * share.got_bytes
