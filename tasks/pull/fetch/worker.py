"""One connection: takes shares of files from the crew, asks for them, and writes them down."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from tasks.errors import DigestMismatchError, ProvisionError
from tasks.pull.fetch.blocks import BLOCK_BYTES, count, span
from tasks.pull.fetch.crew import IDLE_S, Crew
from tasks.pull.fetch.item import Item, Share, Wanted
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.web import PARTIAL, AgainError, Answer, StatusError, Web
from tasks.pull.store import INTACT, short

QUICK_BYTES_PER_S = 2_000_000
"""A connection that gives this much is asked for whole pieces; a slower one says how far it is more often."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Explain = Callable[[StatusError, Wanted], ProvisionError]


@dataclass
class Worker:
    """What the connections of one fetch have in common, and the loop of each."""

    crew: Crew
    web: Web
    line: Line
    host: str
    name: object
    explain: Explain
    stop: Event
    webs: set[Web] = field(default_factory=set)
    """Those of the connections that work, so that they can be ended."""

    def run(self) -> None:
        """Fetch until nothing is left, or until fewer connections are wanted."""
        web = self.web.twin()
        self.webs.add(web)
        try:
            while not self.stop.is_set() and not self.crew.idle():
                if self.line.paused_s(self.host) > 0 or (share := self.crew.next_share()) is None:
                    self.stop.wait(IDLE_S)
                else:
                    share.hang_up = web.cut
                    self._try(share, web)
                if self.line.must_yield(self.host, self.name):
                    return
        except BaseException as error:  # noqa: BLE001  # a thread's error belongs to whoever waits for it
            self.crew.fail(error)
        finally:
            web.close()
            self.webs.discard(web)
            self.line.close(self.host, self.name)

    def _try(self, share: Share, web: Web) -> None:
        item = share.item
        try:
            if item.small:
                share.keep(self._whole(share, web))
            else:
                self._range(share, web)
        except AgainError as error:
            item.location = ""
            if not share.cut:
                if error.wait_s:
                    self.line.pause(self.host, error.wait_s)
                self.crew.stumbled(share, error.wait_s, error)
        except StatusError as error:
            if error.status == 416:  # noqa: PLR2004  # Range Not Satisfiable: the file there is shorter
                raise self._other_size(item.wanted, "fewer") from error
            raise self.explain(error, item.wanted) from error
        finally:
            self.crew.done(share)

    @contextmanager
    def _asked(self, item: Item, web: Web, headers: dict[str, str]) -> Iterator[Answer]:
        answer = self._answer(item, web, headers)
        self.crew.answered = True
        try:
            yield answer
        finally:
            answer.release()

    def _answer(self, item: Item, web: Web, headers: dict[str, str]) -> Answer:
        """Ask the address behind the redirect; where it ran out, the source gives a fresh one."""
        check = partial(_check_linked, item.wanted)
        if location := item.location:
            try:
                return web.open(location, headers=headers)
            except StatusError:
                if item.location == location:
                    item.location = ""
        return web.open(item.wanted.url, headers=headers, check=check)

    def _whole(self, share: Share, web: Web) -> bytes:
        """Fetch a small file."""
        wanted, parts, got = share.item.wanted, [], 0
        with self._asked(share.item, web, {}) as answer:
            if answer.headers.get("content-length", str(wanted.size_bytes)) != str(wanted.size_bytes):
                raise AgainError(_announces(wanted, answer.headers["content-length"]))
            while got <= wanted.size_bytes and (piece := self._piece(answer)):
                self.crew.progressed(share, len(piece))
                parts.append(piece)
                got += len(piece)
        if got != wanted.size_bytes:
            raise AgainError(f"{wanted.path} came with {got} bytes instead of {wanted.size_bytes}")
        return b"".join(parts)

    def _range(self, share: Share, web: Web) -> None:
        item, wanted = share.item, share.item.wanted
        first, behind = span((share.at, share.end), wanted.size_bytes)
        with self._asked(item, web, {"Range": f"bytes={first}-{behind - 1}"}) as answer:
            if answer.status == PARTIAL:
                self._check_range(share, answer, first)
                if answer.url != wanted.url:
                    item.location = answer.url
                self._read(share, answer, first)
            else:
                self._rangeless(share, answer)

    def _rangeless(self, share: Share, answer: Answer) -> None:
        """Read a whole file from a server that gives no ranges, if it is this share's to read.

        What is there already is passed over and not written: its digest may have been taken.
        """
        item, at = share.item, 0
        announced = answer.headers.get("content-length", str(item.wanted.size_bytes))
        if announced != str(item.wanted.size_bytes):
            raise AgainError(_announces(item.wanted, announced))
        if not self.crew.alone(share):
            return
        while self.crew.goes_on(share):
            first = share.at * BLOCK_BYTES
            while at < first and not (share.cut or self.stop.is_set()):
                at += self._next(share, answer, first - at)
            at = self._read(share, answer, at)

    def _check_range(self, share: Share, answer: Answer, first: int) -> None:
        wanted = share.item.wanted
        match = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if match is None or int(match[1]) != first:
            raise AgainError(f"{wanted.path} came with another range than was asked for")
        if match[3] not in {"*", str(wanted.size_bytes)}:
            raise AgainError(_announces(wanted, match[3]))
        if self.crew.restarts(share, answer.headers.get("etag", "")):
            raise AgainError(f"{wanted.path} changed at the source while it was fetched")

    def _read(self, share: Share, answer: Answer, at: int) -> int:
        """Write what comes from byte `at` on, note each block that is whole, and return how far it came."""
        size_bytes = share.item.wanted.size_bytes
        share.fresh.clear()
        while not (share.cut or self.stop.is_set()) and at < (behind := share.behind):
            piece = self._some(share, answer, behind - at)
            at += share.write(piece, at)
            self.crew.progressed(
                share, len(piece), count(size_bytes) if at == size_bytes else at // BLOCK_BYTES
            )
        return at

    def _some(self, share: Share, answer: Answer, most_bytes: int) -> bytes:
        size = self.line.piece_bytes()
        whole = size <= most_bytes and share.rate > QUICK_BYTES_PER_S
        # A quick connection gives its pieces in small change, and each costs the interpreter a turn.
        piece = self._counted(answer.read_full(size)) if whole else self._piece(answer, most_bytes)
        if not piece:
            raise AgainError(f"{share.item.wanted.path} broke off")
        return piece

    def _next(self, share: Share, answer: Answer, most_bytes: int) -> int:
        """Pass over bytes, and return how many."""
        size_bytes = len(self._some(share, answer, most_bytes))
        self.crew.progressed(share, size_bytes)
        return size_bytes

    def _piece(self, answer: Answer, most_bytes: int | None = None) -> bytes:
        size = self.line.piece_bytes()
        return self._counted(answer.read_some(size if most_bytes is None else min(size, most_bytes)))

    def _counted(self, piece: bytes) -> bytes:
        self.line.take(len(piece), self.stop)
        return piece

    @staticmethod
    def _other_size(wanted: Wanted, how: str) -> DigestMismatchError:
        what = f"the source has {how} bytes of {wanted.path} than the {wanted.size_bytes} that are pinned"
        return DigestMismatchError(what, INTACT, "compare the pin with the source")


def _announces(wanted: Wanted, size: str) -> str:
    return f"{wanted.path} is announced with {size} bytes instead of {wanted.size_bytes}"


def _check_linked(wanted: Wanted, answer: Answer) -> None:
    """Refuse a file before its bytes where the hub itself names another digest for it."""
    said = answer.headers.get("x-linked-etag", "").strip('"')
    kind, _, pinned = wanted.digest.partition(":")
    if kind == "sha256" and _SHA256.fullmatch(said) and said != pinned:
        raise DigestMismatchError(
            f"{wanted.path} is announced with sha256 {short(said)} instead of {short(pinned)}",
            INTACT,
            "compare the pin with the source",
        )
