"""Which hardware profile fits a host: matched by what the hardware is, ranked, explained."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Catalogue, HostFacts, Match, Profile, Unknown
from tasks.wording import gib, plural


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether one profile fits the host, and the sentence with both numbers."""

    profile: str
    fits: bool
    score: tuple[int, ...]
    why: str


def fits(catalogue: Catalogue, facts: HostFacts) -> tuple[Fit, ...]:
    """Return every profile's fit: those that fit first, the most specific of them at the top."""
    found = [fit(profile, facts) for profile in catalogue.profiles.values()]
    return tuple(sorted(found, key=lambda one: (one.fits, one.score, one.profile), reverse=True))


def fit(profile: Profile, facts: HostFacts) -> Fit:
    """Compare what one profile asks for with what the host has."""
    why_not = _missing(profile.match, facts)
    if why_not:
        return Fit(profile.name, fits=False, score=(), why=why_not)
    return Fit(profile.name, fits=True, score=_score(profile.match, facts), why=_has(profile.match, facts))


def _score(match: Match, facts: HostFacts) -> tuple[int, ...]:
    """Rank by board, cards, name, then by how much memory the profile asks for."""
    named = any(name.lower() in one.lower() for name in match.names for one in _names(facts))
    return (
        int(match.board is not None),
        match.min_cards,
        int(named),
        match.min_card_memory_bytes,
        int(match.accelerator is None and match.board is None and match.min_memory_bytes > 0),
        match.min_memory_bytes,
    )


def _names(facts: HostFacts) -> tuple[str, ...]:
    devices = () if isinstance(facts.accelerators, Unknown) else facts.accelerators
    board = () if isinstance(facts.board, Unknown) else (facts.board,)
    return tuple(device.name for device in devices) + board


def _missing(match: Match, facts: HostFacts) -> str:
    """Return the first thing that the host lacks, with both numbers, or an empty text."""
    if match.board is not None and (
        isinstance(facts.board, Unknown) or not facts.board.startswith(match.board)
    ):
        has = facts.board.unknown if isinstance(facts.board, Unknown) else f"this is {facts.board}"
        return f"it needs 1 {match.board} board and this host has 0 ({has})"
    if match.accelerator is not None:
        return _missing_cards(match, facts)
    return _missing_memory(match, facts)


def _missing_cards(match: Match, facts: HostFacts) -> str:
    if isinstance(facts.accelerators, Unknown):
        return f"what cards this host has is not known: {facts.accelerators.unknown}"
    sizes = _card_bytes(match, facts)
    enough = [size for size in sizes if size >= match.min_card_memory_bytes]
    if len(enough) < match.min_cards:
        each = f" with {gib(match.min_card_memory_bytes)} each" if match.min_card_memory_bytes else ""
        largest = f", the largest with {gib(max(sizes))}" if sizes else ""
        wanted = plural(match.min_cards, f"{match.accelerator} card")
        return f"it needs {wanted}{each} and this host has {len(sizes)}{largest}"
    if sum(sizes) < match.min_memory_bytes:
        return f"it needs {gib(match.min_memory_bytes)} on its cards and this host has {gib(sum(sizes))}"
    return ""


def _card_bytes(match: Match, facts: HostFacts) -> list[int]:
    devices = () if isinstance(facts.accelerators, Unknown) else facts.accelerators
    return [
        # A share of main memory is not a card's: main memory already counts it.
        0 if isinstance(device.memory_total_bytes, Unknown) or device.unified else device.memory_total_bytes
        for device in devices
        if device.vendor == match.accelerator
    ]


def _missing_memory(match: Match, facts: HostFacts) -> str:
    total = facts.memory.total_bytes
    if isinstance(total, Unknown):
        return (
            f"it needs {gib(match.min_memory_bytes)} of memory and this host's is not known: {total.unknown}"
        )
    if total < match.min_memory_bytes:
        return f"it needs {gib(match.min_memory_bytes)} of memory and this host has {gib(total)}"
    return ""


def _has(match: Match, facts: HostFacts) -> str:
    if match.accelerator is not None:
        sizes = _card_bytes(match, facts)
        return f"{plural(len(sizes), f'{match.accelerator} card')} with {gib(sum(sizes))}"
    total = facts.memory.total_bytes
    memory = "unknown memory" if isinstance(total, Unknown) else f"{gib(total)} of memory"
    asked = f", {gib(match.min_memory_bytes)} asked for"
    where = f"{facts.board}, " if match.board is not None else ""
    return f"{where}{memory}{asked}"
