"""What earlier runs measured, and how it changes the next plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.measured import Known, known
from tasks.contracts import DeviceProcess, Measured, Outcome, RunRecord, Unknown, VerifiedServer, Wish
from tasks.plan.request import Request
from tests.lab.bundles import decoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host
from tests.lab.verified import verified_server

MIB = 1 << 20
GIB = 1 << 30


def server(
    model: str = "chat",
    *,
    memory_bytes: int | Unknown = 5 * GIB,
    pid: int = 7,
    device_name: str = "gpu0",
    quantisation: str = "v0",
    context: int = 4096,
) -> VerifiedServer:
    """Return a verified server of one model."""
    made = verified_server(model, role="llm", runtime="ollama")
    planned = replace(
        made.server.planned,
        device=device_name,
        quantisation=quantisation,
        context=context,
        kv_type="q8_0",
        parallel=2,
    )
    process = replace(made.server.process, pid=pid)
    return replace(
        made,
        memory_bytes=memory_bytes,
        texts_per_s=31.0,
        server=replace(made.server, planned=planned, process=process),
    )


def run(*servers: VerifiedServer, outcome: Outcome = "changed") -> RunRecord:
    """Return a run that verified some servers."""
    return RunRecord("r", "0", "lab-host", "", 1.0, outcome, "", "", "auto", verified=servers)


def everything(_pid: int) -> bool:
    """Say that every process runs."""
    return True


def test_a_footprint_is_what_was_planned_and_what_was_measured() -> None:
    """With the context, KV type and parallel requests that it was measured with."""
    found = known([run(server())], everything)

    assert found.footprints == (
        Measured(
            model="chat", quantisation="v0", runtime="ollama", on_gpu=True, memory_bytes=5 * GIB,
            context=4096, kv_type="q8_0", parallel=2, per_s=31.0, unit="texts/s",
        ),
    )  # fmt: skip
    assert not known([run(server(device_name="cpu"))], everything).footprints[0].on_gpu


@pytest.mark.parametrize("outcome", ["failed", "interrupted", "refused", "dry run"])
def test_only_good_runs_count(outcome: Outcome) -> None:
    """What a run measured that ended otherwise tells nothing."""
    assert known([run(server(), outcome=outcome)], everything) == Known()


def test_a_run_with_nothing_to_do_counts() -> None:
    """It verified what it found."""
    assert known([run(server(), outcome="nothing to do")], everything).footprints


def test_what_was_not_measured_is_no_footprint() -> None:
    """Nor what an older record does not say the variant of."""
    assert known([run(server(memory_bytes=Unknown("no counter")))], everything).footprints == ()
    assert known([run(server(quantisation=""))], everything).footprints == ()


def test_footprints_are_oldest_first() -> None:
    """So the newest is the last of its kind."""
    found = known([run(server(memory_bytes=1)), run(server(memory_bytes=2))], everything)

    assert [one.memory_bytes for one in found.footprints] == [1, 2]


def test_processes_of_the_newest_good_run_hold_memory() -> None:
    """Those of an older one were replaced; a failed run after it changes nothing."""
    found = known(
        [run(server(pid=1)), run(server(pid=2), server(pid=3)), run(server(pid=4), outcome="failed")],
        everything,
    )

    assert found.pids == {2, 3}


def test_a_dead_process_holds_nothing() -> None:
    """Neither on a card nor in main memory; its footprint still counts."""
    servers = (server(pid=2, device_name="cpu"), server(pid=3, device_name="cpu", memory_bytes=3 * GIB))

    found = known([run(*servers)], lambda pid: pid == 3)

    assert found.pids == {3}
    assert found.main_bytes == 3 * GIB
    assert len(found.footprints) == 2


def test_what_lies_on_a_card_is_not_main_memory() -> None:
    """It is found by its pid there; what is not measured is not guessed."""
    found = known(
        [run(server(pid=2), server(pid=3, device_name="cpu", memory_bytes=Unknown("no counter")))], everything
    )

    assert found.main_bytes == 0


def test_without_a_run_nothing_is_known() -> None:
    """The first plan of a host is made of estimates."""
    assert known([], everything) == Known()


# --- in a plan -----------------------------------------------------------------------------------

SHELF = shelf_of(
    (decoder("chat", roles=("llm",), sizes_mib=(4000,)),),
    (Wish(role="llm", models=("chat",), context=8192, min_context=2048, kv_types=("f16",), may=()),),
)
HOST = make_host(cards=(device(),))


def seen(memory_bytes: int, *, context: int = 8192) -> Measured:
    """Return a footprint of the chat model."""
    return Measured("chat", "v0", "ollama", on_gpu=True, memory_bytes=memory_bytes, context=context)


def planned_bytes(*measured: Measured) -> tuple[int, bool]:
    """Return what the plan counts for the chat model, and whether that was measured."""
    (one,) = planned_on(HOST, SHELF, Request("lab", measured=measured)).models
    return one.memory_bytes, one.memory_measured


def test_a_footprint_replaces_the_estimate() -> None:
    """To the byte, where it was measured with the same context; the newest counts."""
    estimate, measured = planned_bytes()

    assert not measured
    assert planned_bytes(seen(6 * GIB)) == (6 * GIB, True)
    assert planned_bytes(seen(6 * GIB), seen(7 * GIB)) == (7 * GIB, True)
    assert estimate not in {6 * GIB, 7 * GIB}


def test_a_footprint_with_another_context_changes_the_need() -> None:
    """By the cache and the buffer of 4,096 tokens: 4 layers x 4 heads x 64 x 4 and 2,048 bytes each."""
    assert planned_bytes(seen(6 * GIB, context=4096)) == (6 * GIB + 4096 * (4096 + 2048), True)


def test_a_footprint_of_something_else_changes_nothing() -> None:
    """Another variant, runtime or place is another server."""
    estimate = planned_bytes()
    one = seen(6 * GIB)

    for other in (
        replace(one, quantisation="v1"),
        replace(one, runtime="llama.cpp"),
        replace(one, on_gpu=False),
        replace(one, model="other"),
    ):
        assert planned_bytes(other) == estimate


def test_what_own_servers_hold_can_be_planned_with_again() -> None:
    """A second run of the same plan finds room although the first run's server fills the card."""
    small = make_host(cards=(device(mib=5200, used_mib=5000),), memory_gib=1)
    card = small.accelerators[0] if isinstance(small.accelerators, tuple) else device()
    held = replace(card, processes=(DeviceProcess(7, 5000 * MIB),))

    plan = planned_on(replace(small, accelerators=(held,)), SHELF, Request("lab", own_pids=frozenset({7})))

    assert [one.device for one in plan.models] == ["gpu0"]
