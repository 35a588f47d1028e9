"""What goes wrong at the hub while pulls run: one random thing after the other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from random import Random
from typing import Self

from tests.lab.hub_faults import (
    Drop,
    Fault,
    Flip,
    Garbage,
    Hangup,
    Lie,
    Long,
    Order,
    RedirectLoop,
    RedirectTo,
    Short,
    Silent,
    Slow,
    Stall,
    Status,
    Swap,
    Where,
)
from tests.lab.hub_process import Control, HubProcess

AHEAD_BYTES = 12_000_000
WHERE: tuple[Where, ...] = ("get", "cdn", "cdn")
AGAIN = (408, 425, 429, 500, 502, 503, 504)
NEVER = (400, 401, 403, 404, 410, 416, 451)
SANE = {
    "ranges": True,
    "latency_s": 0.0,
    "bytes_per_s": None,
    "link_bytes_per_s": None,
    "lifetime_requests": 1_000_000,
    "lifetime_s": 3600.0,
    "clock_s": 0.0,
    "cache_redirect": False,
}
KINDS: dict[str, tuple[int, Callable[[Random], Fault]]] = {
    "drop": (8, lambda r: Drop(after=r.randrange(2_000_000), reset=r.random() < 0.5)),
    "drop at": (8, lambda r: Drop(at=r.randrange(AHEAD_BYTES))),
    "stall": (3, lambda r: Stall(after=r.randrange(2_000_000), for_s=r.choice([0.3, 1.0, 3.0, None]))),
    "flip": (4, lambda r: Flip(at=r.choice([0, -1, r.randrange(AHEAD_BYTES)]))),
    "short": (2, lambda r: Short(by=r.randint(1, 50_000))),
    "long": (2, lambda r: Long(by=r.randint(1, 50_000), announced=r.random() < 0.5)),
    "status": (6, lambda r: Status(r.choice(AGAIN), retry_after_s=r.choice([None, None, 0, 1]))),
    "refusal": (1, lambda r: Status(r.choice(NEVER))),
    "slow": (2, lambda r: Slow(bytes_per_s=r.choice([3e6, 3e5, 2e4]), headers=False)),
    "slow loris": (1, lambda r: Slow(bytes_per_s=r.choice([20.0, 200.0]), headers=True)),
    "swap": (1, lambda r: Swap(data=r.randbytes(r.randint(0, 3_000_000)))),
    "garbage": (2, lambda _: Garbage()),
    "silent": (2, lambda r: Silent(for_s=r.choice([0.5, 2.0, None]))),
    "hangup": (4, lambda _: Hangup()),
    "redirect loop": (1, lambda _: RedirectLoop()),
    "dead redirect": (1, lambda _: RedirectTo("http://127.0.0.1:9")),
    "lie": (1, lambda r: r.choice([Lie(sha256="0" * 64), Lie(size=7), Lie(commit="f" * 40)])),
}
"""Faults of single answers, and how often."""
SETTINGS: dict[str, Callable[[Random], dict[str, float | bool | None]]] = {
    "no ranges": lambda _: {"ranges": False},
    "latency": lambda r: {"latency_s": r.choice([0.01, 0.1, 0.5])},
    "slow connections": lambda r: {"bytes_per_s": r.choice([1e6, 5e6])},
    "slow link": lambda r: {"link_bytes_per_s": r.choice([5e6, 2e7])},
    "one-time addresses": lambda _: {"lifetime_requests": 1},
    "short-lived addresses": lambda r: {"lifetime_s": r.choice([0.05, 0.5])},
    "wrong clock": lambda r: {"clock_s": r.choice([-1e6, 1e6])},
    "cached redirects": lambda _: {"cache_redirect": True},
    "sane": lambda _: dict(SANE),
}
EVENTS = ("expire", "cut", "kill")


class Trouble:
    """Makes trouble while the block runs; after it the hub is as it should be."""

    def __init__(self, hub: HubProcess, random: Random) -> None:
        self.hub = hub
        self.made: Counter[str] = Counter()
        self.sent_bytes = 0
        self.error: BaseException | None = None
        self._random = random
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trouble", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self._restart(0.0)  # also undoes swaps, and ends what stands still

    def _run(self) -> None:
        try:
            self._make(self._random.choice([*KINDS]))
            while not self._over.wait(self._random.uniform(0.02, 0.4)):
                names = [*KINDS, *SETTINGS, *EVENTS]
                often = [*(often for often, _ in KINDS.values()), *[2] * len(SETTINGS), 3, 2, 1]
                self._make(self._random.choices(names, often)[0])
        except BaseException as error:  # noqa: BLE001  # the round tells it
            self.error = error

    def _make(self, name: str) -> None:
        random = self._random
        self.made[name] += 1
        if name in KINDS:
            where, what = random.choice(WHERE), KINDS[name][1](random)
            order = Order(where, what, random.randint(1, 3), random.randint(0, 3))
            self.hub.tell(Control(fail=[order]))
        elif name in SETTINGS:
            self.hub.set(**SETTINGS[name](random))
        elif name == "kill":
            self._restart(random.choice([0.0, 0.3, 1.0]))
        else:
            with suppress(HTTPException, OSError):  # a cut ends the connection that asks for it, too
                self.hub.tell(Control(expire=name == "expire", cut=name == "cut"))

    def _restart(self, down_s: float) -> None:
        self.sent_bytes += int(self.hub.stat()["sent_bytes"])
        self.hub.kill()
        time.sleep(down_s)
        for _ in range(20):
            with suppress(AssertionError):  # a client's own port may be in the way for a moment
                self.hub.start()
                return
            time.sleep(0.2)
        self.hub.start()
