"""Pools: what a plan may use of each memory, and that nothing is counted twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import DeviceProcess, HostFacts, Limits, Memory, Unknown
from tasks.plan.budget import Pool, Pools, describe, pools
from tasks.plan.places import split_sets
from tasks.plan.request import Request
from tests.lab.hosts import device, main_memory, make_host, shared_device

MIB = 1 << 20
GIB = 1 << 30
MARGIN = Limits(margin_bytes=512 * MIB)
PLAIN = Request()


def only(facts: HostFacts, request: Request = PLAIN, limits: Limits = MARGIN) -> Pool:
    """Return the first pool of a host."""
    return pools(facts, limits, request).pools[0]


def on_one_card(
    *, used_mib: int = 0, reserved_mib: int = 0, processes: tuple[DeviceProcess, ...] = ()
) -> HostFacts:
    """Return a host with one card of 24 GiB."""
    one = replace(
        device(mib=24576, used_mib=used_mib + reserved_mib),
        memory_reserved_bytes=reserved_mib * MIB,
        processes=processes,
    )
    return make_host(cards=(one,))


def adds_up(one: Pool) -> bool:
    """Tell whether the parts of an uncapped pool are its total."""
    return one.total_bytes == one.reserved_bytes + one.others_bytes + one.margin_bytes + one.budget_bytes


def test_a_card_is_what_reserved_others_and_margin_leave() -> None:
    """24 GiB less 400 MiB of the driver, 1 GiB of others and 512 MiB of margin."""
    one = only(on_one_card(used_mib=1024, reserved_mib=400))

    assert (one.reserved_bytes, one.others_bytes, one.margin_bytes) == (400 * MIB, 1024 * MIB, 512 * MIB)
    assert one.budget_bytes == (24576 - 400 - 1024 - 512) * MIB
    assert adds_up(one)


def test_what_own_processes_hold_is_not_others_use() -> None:
    """A process of this program is found by its pid; a stranger's stays counted."""
    facts = on_one_card(used_mib=9000, processes=(DeviceProcess(7, 6000 * MIB), DeviceProcess(8, 3000 * MIB)))

    assert only(facts).others_bytes == 9000 * MIB
    assert only(facts, Request(own_pids=frozenset({7}))).others_bytes == 3000 * MIB
    assert only(facts, Request(own_pids=frozenset({7, 8}))).others_bytes == 0


def test_an_own_process_of_unknown_size_frees_nothing() -> None:
    """What the driver does not tell is not guessed."""
    facts = on_one_card(used_mib=9000, processes=(DeviceProcess(7, Unknown("not told")),))

    assert only(facts, Request(own_pids=frozenset({7}))).others_bytes == 9000 * MIB


def test_own_main_memory_is_not_others_use() -> None:
    """What this program's servers hold of main memory can be planned with again."""
    facts = make_host(memory_gib=32, available_gib=20)

    assert only(facts).budget_bytes == 18 * GIB
    assert only(facts, Request(own_bytes=4 * GIB)).budget_bytes == 22 * GIB
    assert only(facts, Request(own_bytes=400 * GIB)).budget_bytes == 30 * GIB
    assert adds_up(only(facts, Request(own_bytes=4 * GIB)))


def test_main_memory_has_no_margin_but_what_the_system_keeps() -> None:
    """A sixteenth of 32 GiB is kept; 12 GiB are others'."""
    one = only(make_host(memory_gib=32, available_gib=20))

    assert (one.name, one.reserved_bytes, one.others_bytes, one.margin_bytes) == ("cpu", 2 * GIB, 12 * GIB, 0)
    assert adds_up(one)


@pytest.mark.parametrize("available_mib", [0, 100, 2048, 32768])
def test_main_memory_always_adds_up(available_mib: int) -> None:
    """Also where less is available than the system keeps."""
    facts = replace(make_host(), memory=main_memory(32768, available_mib))

    assert adds_up(only(facts))
    assert only(facts).budget_bytes == max(0, available_mib - 2048) * MIB


@pytest.mark.parametrize(("used_mib", "budget_mib"), [(24576, 0), (24400, 0), (24064, 0), (24000, 64)])
def test_a_full_card_always_adds_up(used_mib: int, budget_mib: int) -> None:
    """The margin gives way before the budget goes below nothing."""
    one = only(on_one_card(used_mib=used_mib))

    assert adds_up(one)
    assert one.budget_bytes == budget_mib * MIB


def test_free_memory_that_is_not_known_is_not_others_use() -> None:
    """Only the total is known, so the plan takes it for free."""
    one = replace(device(mib=24576), memory_free_bytes=Unknown("not told"))

    assert only(make_host(cards=(one,))).others_bytes == 0


def test_a_device_of_unknown_size_is_left_out_with_its_reason() -> None:
    """The next device takes its place, and its sentence stays."""
    lost = replace(device(index=0), memory_total_bytes=Unknown("GPU is lost"))
    found = pools(make_host(cards=(lost, device(index=1))), MARGIN, PLAIN)

    assert ["nvidia card 1", "main memory"] == [one.title for one in found.pools]
    assert found.left_out == ("nvidia card 0 is not planned on: GPU is lost",)


def test_accelerators_that_are_not_known_leave_main_memory_and_a_reason() -> None:
    """Unknown is not none."""
    found = pools(make_host(cards=Unknown("NVML did not answer")), MARGIN, PLAIN)

    assert [one.name for one in found.pools] == ["cpu"]
    assert found.left_out == ("no accelerator is planned on: NVML did not answer",)


def test_main_memory_that_is_not_known_is_no_pool() -> None:
    """The cards remain; a host with neither has nothing to plan with."""
    nothing = Memory(Unknown("no meminfo"), Unknown("no meminfo"))
    facts = replace(make_host(cards=(device(),)), memory=nothing)

    assert [one.name for one in pools(facts, MARGIN, PLAIN).pools] == ["gpu0"]
    assert describe(pools(replace(facts, accelerators=()), MARGIN, PLAIN)) == "no memory is known"


def test_available_memory_that_is_not_known_is_all_of_it() -> None:
    """Less what the system keeps."""
    facts = replace(make_host(), memory=Memory(32 * GIB, Unknown("an old kernel")))

    assert only(facts).budget_bytes == 30 * GIB


def test_a_profile_without_accelerators_plans_main_memory_alone() -> None:
    """The cards are neither used nor complained about; that they are not known is still said."""
    limits = Limits(accelerators=False)
    lost = replace(device(index=1), memory_total_bytes=Unknown("GPU is lost"))

    found = pools(make_host(cards=(device(), lost)), limits, PLAIN)
    silent = pools(make_host(cards=Unknown("NVML did not answer")), limits, PLAIN)

    assert ([one.name for one in found.pools], found.left_out) == (["cpu"], ())
    assert [one.name for one in silent.pools] == ["cpu"]
    assert silent.left_out == ("no accelerator is planned on: NVML did not answer",)


# --- shared memory -------------------------------------------------------------------------------


def jetson(total_mib: int = 65536, available_mib: int = 60000) -> HostFacts:
    """Return a host whose device shares main memory."""
    memory = main_memory(total_mib, available_mib)
    return replace(make_host(), memory=memory, accelerators=(shared_device("nvidia", memory),))


def test_a_shared_device_and_main_memory_are_one_pool() -> None:
    """It is called gpu0, and "cpu" finds it too."""
    found = pools(jetson(), Limits(margin_bytes=0), PLAIN)

    assert [one.name for one in found.pools] == ["gpu0"]
    assert found.index("cpu") == found.index("gpu0") == 0
    assert found.pools[0].main
    assert adds_up(found.pools[0])


def test_a_shared_device_has_what_main_memory_would_have() -> None:
    """The same bytes are available whichever way they are looked at."""
    facts = jetson()
    limits = Limits(margin_bytes=0)
    request = Request(own_bytes=3 * GIB)

    for one in (PLAIN, request):
        shared = only(facts, one, limits)
        main = only(replace(facts, accelerators=()), one, limits)
        assert (shared.total_bytes, shared.reserved_bytes, shared.others_bytes, shared.budget_bytes) == (
            main.total_bytes, main.reserved_bytes, main.others_bytes, main.budget_bytes
        )  # fmt: skip


def test_a_second_shared_device_is_left_out() -> None:
    """The same memory is not given away twice."""
    facts = jetson()
    both = (*(facts.accelerators if isinstance(facts.accelerators, tuple) else ()),) * 2

    found = pools(replace(facts, accelerators=both), MARGIN, PLAIN)

    assert len(found.pools) == 1
    assert "it shares main memory with another device" in found.left_out[0]


def test_a_card_beside_a_shared_device_is_its_own_pool() -> None:
    """An integrated device and a card: two pools, and main memory is the first of them."""
    facts = jetson()
    shared = facts.accelerators[0] if isinstance(facts.accelerators, tuple) else device()

    found = pools(replace(facts, accelerators=(shared, device("amd"))), MARGIN, PLAIN)

    assert [(one.name, one.main) for one in found.pools] == [("gpu0", True), ("gpu1", False)]
    assert found.index("cpu") == 0


# --- caps and risk -------------------------------------------------------------------------------


def test_caps_bound_what_a_plan_may_use() -> None:
    """One cap for each card, one for main memory; a cap above what there is changes nothing."""
    facts = make_host(memory_gib=64, cards=(device(index=0), device(index=1)))

    cards = pools(facts, MARGIN, Request(vram_bytes=20 * GIB)).pools
    main = pools(facts, MARGIN, Request(ram_bytes=8 * GIB)).pools
    wide = pools(facts, MARGIN, Request(vram_bytes=900 * GIB, ram_bytes=900 * GIB)).pools

    assert [one.budget_bytes for one in cards] == [20 * GIB, 20 * GIB, 60 * GIB]
    assert [one.budget_bytes for one in main] == [24064 * MIB, 24064 * MIB, 8 * GIB]
    assert wide == pools(facts, MARGIN, PLAIN).pools


def test_a_shared_device_keeps_the_cap_of_main_memory() -> None:
    """Its memory is main memory."""
    assert only(jetson(), Request(ram_bytes=8 * GIB)).budget_bytes == 8 * GIB
    assert only(jetson(), Request(vram_bytes=8 * GIB)).budget_bytes == only(jetson()).budget_bytes


def test_an_accepted_risk_leaves_no_margin() -> None:
    """The margin is added to what the plan may use."""
    facts = on_one_card()
    with_margin, without = only(facts), only(facts, Request(accept_risk=True))

    assert without.margin_bytes == 0
    assert without.budget_bytes == with_margin.budget_bytes + 512 * MIB


def test_slices_of_a_card_are_pools_that_are_never_cut_together() -> None:
    """Nor with a whole card."""
    slices = tuple(device(index=0, mib=20480, slice_of="GPU-nvidia-0") for _ in range(3))
    found: Pools = pools(make_host(cards=(*slices, device(index=1))), MARGIN, PLAIN)

    assert [one.name for one in found.pools] == ["gpu0", "gpu1", "gpu2", "gpu3", "cpu"]
    assert list(split_sets(found.pools)) == []


def test_what_there_is_to_plan_with_is_said_in_one_clause() -> None:
    """Each pool with its name, its size and what is left."""
    assert describe(pools(make_host(memory_gib=32, cards=(device(),)), MARGIN, PLAIN)) == (
        "gpu0 nvidia card 0 24.0 GiB, 23.5 GiB to plan with, cpu main memory 32.0 GiB, 30.0 GiB to plan with"
    )


# --- limits of what is planned on ----------------------------------------------------------------


def test_the_sixteen_largest_devices_are_planned_on() -> None:
    """The rest are named by their number; those that are taken keep their order."""
    cards = tuple(device(index=at, mib=8000 if at == 3 else 24000 - at) for at in range(17))

    found = pools(make_host(cards=cards), MARGIN, PLAIN)

    assert [one.device.index for one in found.pools if one.device] == [0, 1, 2, *range(4, 17)]
    assert found.left_out == ("1 device is not planned on: 16 are the most",)


@pytest.mark.parametrize(("total_gib", "percent"), [(16, 66), (36, 66), (64, 75), (192, 75)])
def test_macos_lets_the_gpu_have_a_part_of_main_memory(total_gib: int, percent: int) -> None:
    """However much of it is free."""
    memory = main_memory(total_gib << 10)
    one = only(replace(make_host(cards=(shared_device("apple", memory),)), memory=memory))

    assert one.budget_bytes == memory.total_bytes * percent // 100 - 512 * MIB
