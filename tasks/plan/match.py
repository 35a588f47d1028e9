"""Which hardware profile fits a host: matched by what the hardware is, ranked, explained. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Accelerator, Catalogue, HostFacts, Match, Profile, Unknown
from tasks.errors import HardwareMissingError, UnknownProfileError
from tasks.plan.request import AUTO, NOTHING_CHANGED, Request
from tasks.wording import gib, listed, meant, plural

EMBEDDED = "embedded"
BOARD, DEVICE, WHATEVER, MAIN_MEMORY = 3, 2, 1, 0


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether one profile fits the host, and the sentence with both numbers.

    `score` ranks those that fit: the kind of thing that is asked for (a board, a device, whatever there is,
    main memory), how many bytes, and whether the profile names what is here.
    """

    profile: str
    fits: bool
    score: tuple[int, ...]
    why: str


def fits(catalogue: Catalogue, facts: HostFacts) -> tuple[Fit, ...]:
    """Return every profile's fit: those that fit first, the most specific of them at the top."""
    found = [fit(profile, facts) for profile in catalogue.profiles.values()]
    return tuple(sorted(found, key=lambda one: (not one.fits, *(-part for part in one.score), one.profile)))


def fit(profile: Profile, facts: HostFacts) -> Fit:
    """Compare what one profile asks for with what the host has."""
    why_not = _missing(profile.match, facts)
    if why_not:
        return Fit(profile.name, fits=False, score=(), why=why_not)
    return Fit(profile.name, fits=True, score=_score(profile.match, facts), why=_has(profile.match, facts))


def chosen_profile(
    facts: HostFacts, catalogue: Catalogue, request: Request, *, outside: bool = False
) -> tuple[Profile, str]:
    """Return the profile to plan with, and why.

    Args:
        facts: the host.
        catalogue: its profiles.
        request: the profile's name, or that the best one is wanted.
        outside: whether servers that already run take the place of a container engine.

    Raises:
        UnknownProfileError: there is no profile of that name.
        HardwareMissingError: its hardware is not here, and no risk is accepted.
    """
    if request.profile == AUTO:
        return _automatic(facts, catalogue, outside=outside)
    profile = catalogue.profiles.get(request.profile)
    if profile is None:
        names = [AUTO, *catalogue.profiles]
        hint = meant(request.profile, names, quote="")
        raise UnknownProfileError(
            f"there is no profile {request.profile!r}{hint}",
            NOTHING_CHANGED,
            f"choose one of {listed(names)}",
        )
    found = fit(profile, facts)
    if found.fits:
        return profile, f"named; it fits: {found.why}"
    if request.accept_risk:
        return profile, f"named, and its risk accepted: {found.why}"
    raise HardwareMissingError(
        f"profile {profile.name} does not fit this host: {found.why}",
        NOTHING_CHANGED,
        "see what fits with `pmoves profile detect`, take profile auto, or plan it anyway with --accept-risk",
    )


def best_fit(facts: HostFacts, catalogue: Catalogue) -> Fit | None:
    """Return the most specific profile that fits, other than the embedded one where there is one."""
    found = [one for one in fits(catalogue, facts) if one.fits]
    return next((one for one in found if one.profile != EMBEDDED), found[0] if found else None)


def _automatic(facts: HostFacts, catalogue: Catalogue, *, outside: bool) -> tuple[Profile, str]:
    best = best_fit(facts, catalogue)
    silent = [
        f"no {one.name} answers ({one.detail})"
        for one in (facts.container_engine, facts.hub)
        if not one.answers and not (outside and one is facts.container_engine)
    ]
    if silent and EMBEDDED in catalogue.profiles:
        hardware = f"; by its hardware this host is {best.profile}" if best else ""
        return catalogue.profiles[EMBEDDED], f"auto: {listed(silent)}, so the embedded profile{hardware}"
    if best is None:
        raise HardwareMissingError(
            "no profile fits this host", NOTHING_CHANGED, "see why with `pmoves profile detect`"
        )
    return catalogue.profiles[best.profile], f"auto: the most specific profile that fits: {best.why}"


# --- what a profile asks for -----------------------------------------------------------------------


def _score(match: Match, facts: HostFacts) -> tuple[int, ...]:
    asked = max(match.min_memory_bytes, match.min_cards * match.min_card_memory_bytes)
    return (_kind(match, facts), asked, int(_named(match, facts) != ""), match.min_cards)


def _kind(match: Match, facts: HostFacts) -> int:
    if match.board is not None:
        return BOARD
    if match.accelerator is not None:
        return DEVICE
    devices = () if isinstance(facts.accelerators, Unknown) else facts.accelerators
    usable = any(_bytes(device) for device in devices)
    return WHATEVER if usable and not match.min_memory_bytes else MAIN_MEMORY


def _named(match: Match, facts: HostFacts) -> str:
    """Return the name of the profile's that stands in a device's or the board's own name."""
    devices = () if isinstance(facts.accelerators, Unknown) else facts.accelerators
    board = () if isinstance(facts.board, Unknown) else (facts.board,)
    names = (*(device.name for device in devices), *board)
    return next((one for one in match.names if any(one.lower() in name.lower() for name in names)), "")


def _missing(match: Match, facts: HostFacts) -> str:
    """Return the first thing that the host lacks, with both numbers, or an empty text."""
    if match.board is not None and (
        isinstance(facts.board, Unknown) or not facts.board.startswith(match.board)
    ):
        has = facts.board.unknown if isinstance(facts.board, Unknown) else f"this is {facts.board}"
        return f"it needs 1 {match.board} board and this host has 0 ({has})"
    if match.chips and (facts.jetson is None or facts.jetson.chip not in match.chips):
        has = facts.jetson.chip if facts.jetson else "not known"
        return f"it needs the chip {' or '.join(match.chips)} and this board's is {has}"
    if match.accelerator is not None:
        return _missing_devices(match, facts)
    return _missing_memory(match, facts)


def _missing_devices(match: Match, facts: HostFacts) -> str:
    if isinstance(facts.accelerators, Unknown):
        return f"what cards this host has is not known: {facts.accelerators.unknown}"
    sizes = [_bytes(device) for device in _devices(match, facts)]
    enough = [size for size in sizes if size >= match.min_card_memory_bytes]
    wanted = max(match.min_cards, 1)
    if len(enough) < wanted:
        each = f" with {gib(match.min_card_memory_bytes)} each" if match.min_card_memory_bytes else ""
        largest = f", the largest with {gib(max(sizes))}" if sizes else ""
        return f"it needs {plural(wanted, _noun(match))}{each} and this host has {len(sizes)}{largest}"
    if sum(sizes) < match.min_memory_bytes:
        return f"it needs {gib(match.min_memory_bytes)} on its cards and this host has {gib(sum(sizes))}"
    if match.max_memory_bytes is not None and sum(sizes) > match.max_memory_bytes:
        return f"it is for {gib(match.max_memory_bytes)} at most and this host has {gib(sum(sizes))}"
    return ""


def _noun(match: Match) -> str:
    return (
        f"{match.accelerator} device that shares main memory"
        if match.unified
        else f"{match.accelerator} card"
    )


def _devices(match: Match, facts: HostFacts) -> tuple[Accelerator, ...]:
    devices = () if isinstance(facts.accelerators, Unknown) else facts.accelerators
    return tuple(one for one in devices if one.vendor == match.accelerator and one.unified == match.unified)


def _bytes(device: Accelerator) -> int:
    return 0 if isinstance(device.memory_total_bytes, Unknown) else device.memory_total_bytes


def _missing_memory(match: Match, facts: HostFacts) -> str:
    total = facts.memory.total_bytes
    if isinstance(total, Unknown):
        if not match.min_memory_bytes:
            return ""
        return (
            f"it needs {gib(match.min_memory_bytes)} of memory and this host's is not known: {total.unknown}"
        )
    if total < match.min_memory_bytes:
        return f"it needs {gib(match.min_memory_bytes)} of memory and this host has {gib(total)}"
    if match.max_memory_bytes is not None and total > match.max_memory_bytes:
        return f"it is for {gib(match.max_memory_bytes)} at most and this host has {gib(total)}"
    return ""


def _has(match: Match, facts: HostFacts) -> str:
    named = _named(match, facts)
    known_as = f", {named} is named" if named else ""
    asked = max(match.min_memory_bytes, match.min_cards * match.min_card_memory_bytes)
    asks = f", {gib(asked)} asked for" if asked else ""
    if match.accelerator is not None:
        sizes = [_bytes(device) for device in _devices(match, facts)]
        return f"{plural(len(sizes), _noun(match))} with {gib(sum(sizes))}{asks}{known_as}"
    total = facts.memory.total_bytes
    memory = "unknown memory" if isinstance(total, Unknown) else f"{gib(total)} of memory"
    where = f"{facts.board}, " if match.board is not None else ""
    return f"{where}{memory}{asks}{known_as}"
