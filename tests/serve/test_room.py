"""Whether a new container can load beside what runs."""

from __future__ import annotations

from dataclasses import replace

from tasks.contracts import ContainerState, Unknown
from tasks.serve.room import Verdict, holders, room
from tests.lab.hosts import device, main_memory, shared_device

GIB = 1 << 30
CARD = device(mib=24 << 10)
SHARED = shared_device("nvidia", main_memory(16384))


def verdict(
    wanted: dict[str, int], *, free: int | Unknown = 8 * GIB, claimed: dict[str, int] | None = None
) -> Verdict:
    """Ask for room on a host with one card of its own and 4 GiB of main memory."""
    cards = {"gpu0": replace(CARD, memory_free_bytes=free)}
    return room(wanted, cards, main_bytes=4 * GIB, claimed=claimed or {})


def test_it_fits_to_the_last_byte() -> None:
    """The margin was the planner's."""
    assert verdict({"gpu0": 8 * GIB, "cpu": 4 * GIB}).fits


def test_it_does_not_fit() -> None:
    """With both numbers."""
    found = verdict({"cpu": GIB, "gpu0": 9 * GIB})

    assert (False, "gpu0", "it needs 9.0 GiB of gpu0 and 8.0 GiB are free") == (
        found.fits,
        found.device,
        found.why,
    )


def test_what_others_will_take_is_taken() -> None:
    """It does not show yet; less than nothing is not left."""
    assert verdict({"gpu0": 3 * GIB}, claimed={"gpu0": 5 * GIB, "cpu": 9 * GIB}).fits
    assert not verdict({"gpu0": 4 * GIB}, claimed={"gpu0": 5 * GIB}).fits
    assert "0 bytes are free" in verdict({"gpu0": 1}, claimed={"gpu0": 99 * GIB}).why


def test_what_is_not_known_is_no_room() -> None:
    """Nor is a card that is gone."""
    assert (
        "how much of gpu0 is free is not known (no driver)"
        == verdict({"gpu0": 1}, free=Unknown("no driver")).why
    )
    assert "how much of gpu7 is free is not known (it is gone)" == verdict({"gpu7": 1}).why


def test_a_device_that_shares_main_memory_is_main_memory() -> None:
    """What lies on both is counted together, whichever name it goes by."""
    cards = {"gpu0": SHARED}

    assert room({"gpu0": 5 * GIB}, cards, main_bytes=9 * GIB, claimed={"cpu": 4 * GIB}).fits
    assert not room(
        {"gpu0": 5 * GIB}, cards, main_bytes=9 * GIB, claimed={"cpu": 3 * GIB, "gpu0": 2 * GIB}
    ).fits
    assert not room({"gpu0": 5 * GIB, "cpu": 5 * GIB}, cards, main_bytes=9 * GIB, claimed={}).fits


def test_who_holds_devices() -> None:
    """Those that run, are not kept, and lie in the same memory."""

    def at(server: str, *devices: str, state: str = "running") -> ContainerState:
        return ContainerState(f"pmoves-{server}", server, state, server=server, devices=devices)

    listed = [
        at("d", "gpu1"),
        at("c", "gpu0", "gpu1"),
        at("b", "gpu0"),
        at("a", "gpu0", state="exited"),
        at("e", "cpu"),
    ]

    assert ["b", "c"] == [one.server for one in holders(["gpu0"], listed, {"gpu0": CARD}, kept=())]
    assert ["c"] == [one.server for one in holders(["gpu0"], listed, {"gpu0": CARD}, kept=("b",))]
    assert ["b", "c", "e"] == [one.server for one in holders(["cpu"], listed, {"gpu0": SHARED}, kept=())]
