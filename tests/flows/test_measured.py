"""What earlier runs measured, and how it changes the next plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from flows.measured import FIGURES, Known, earlier, known
from tasks.contracts import (
    ChangeKind,
    DeviceProcess,
    Held,
    Measured,
    Outcome,
    Performance,
    Role,
    RunRecord,
    Unknown,
    VerifiedServer,
    Wish,
)
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
        texts_per_s=0.0,
        performance=Performance(tokens_per_s=31.0, first_token_s=0.2, load_s=7.5),
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
            context=4096, kv_type="q8_0", parallel=2, per_s=31.0, unit="tokens/s",
            first_token_s=0.2, load_s=7.5,
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


# --- figures -------------------------------------------------------------------------------------


def test_every_role_has_a_figure() -> None:
    """A role without one could not be compared with what it was before."""
    assert set(FIGURES) == set(get_args(Role))


def test_a_record_older_than_the_figures_has_texts_a_second() -> None:
    """An embedding server's, which is all that there was."""
    old = replace(server(), texts_per_s=88.0, performance=Performance())
    planned = replace(old.server.planned, role="embeddings")
    (found,) = known([run(replace(old, server=replace(old.server, planned=planned)))], everything).footprints

    assert (found.per_s, found.unit) == (88.0, "texts/s")


def of(one: VerifiedServer, kind: ChangeKind = "create", **figures: float) -> VerifiedServer:
    """Return a server with other figures, that a run kept or changed."""
    change = replace(one.server.change, kind=kind)
    performance = Performance(**figures)  # type: ignore[arg-type]
    return replace(one, performance=performance, server=replace(one.server, change=change))


def test_a_degraded_run_does_not_teach() -> None:
    """What fell back to the CPU takes almost nothing of the card, which would then overflow."""
    fallen = replace(server(memory_bytes=300 * MIB), degraded="it runs on the CPU")
    found = known([run(server()), run(fallen)], everything)

    assert [one.memory_bytes for one in found.footprints] == [5 * GIB]
    assert earlier([run(fallen)], server().server.planned) == ()


def test_a_kept_server_keeps_its_figures() -> None:
    """It was asked a few questions and not measured at length; its memory is new."""
    kept = of(server(memory_bytes=6 * GIB), "keep", tokens_per_s=4.0)
    again = of(server(memory_bytes=7 * GIB), "keep")
    found = known([run(server()), run(kept), run(again)], everything).footprints

    assert [(one.memory_bytes, one.per_s, one.first_token_s, one.load_s) for one in found] == [
        (5 * GIB, 31.0, 0.2, 7.5),
        (6 * GIB, 31.0, 0.2, 7.5),
        (7 * GIB, 31.0, 0.2, 7.5),
    ]


def test_a_server_that_was_measured_again_has_new_figures() -> None:
    """And what this run did not measure is that of the one before."""
    found = known([run(server()), run(of(server(), "replace", tokens_per_s=20.0))], everything).footprints

    assert [(one.per_s, one.first_token_s) for one in found] == [(31.0, 0.2), (20.0, 0.2)]


def test_a_kept_server_of_other_settings_takes_no_figures() -> None:
    """With another context it is another server; what it was asked in passing is all that is known."""
    found = known(
        [run(server()), run(of(server(context=8192), "keep", tokens_per_s=4.0))], everything
    ).footprints

    assert [one.per_s for one in found] == [31.0, 4.0]


def test_the_time_to_load_is_the_runtimes_where_verifying_has_none() -> None:
    """The stage that starts a server measures it as well."""
    one = of(server())
    (found,) = known([run(replace(one, server=replace(one.server, load_s=9.0)))], everything).footprints

    assert found.load_s == 9.0


def test_earlier_runs_of_a_model_are_those_of_the_same_server() -> None:
    """Newest last; not of another variant or place, nor of a run that failed or kept it."""
    records = [
        run(of(server(), tokens_per_s=1.0), server("other")),
        run(of(server(context=8192), "replace", tokens_per_s=2.0)),
        run(of(server(), "keep", tokens_per_s=3.0)),
        run(of(server(quantisation="v1"), tokens_per_s=4.0), of(server(device_name="cpu"), tokens_per_s=5.0)),
        run(of(server(), tokens_per_s=6.0), outcome="failed"),
    ]

    assert [one.per_s for one in earlier(records, server().server.planned)] == [1.0, 2.0]


# --- containers ----------------------------------------------------------------------------------


def boxed(
    model: str, container: str, *held: Held, group: str = "", external: str = "", **more: Any  # noqa: ANN401
) -> VerifiedServer:  # fmt: skip
    """Return a server in a container, and where it lies."""
    made = server(model, **more)
    planned = replace(made.server.planned, group=group, external=external)
    inside = replace(made.server, planned=planned, name=container, container=container)
    return replace(made, held=held, server=inside)


def main(memory_bytes: int) -> Held:
    """Return what lies in main memory."""
    return Held("cpu", memory_bytes, "the engine's counter")


def engine(**pids: tuple[int, ...]) -> Callable[[str], tuple[int, ...]]:
    """Return an engine that runs some containers."""
    return lambda name: pids.get(name, ())


def test_the_engine_tells_the_processes_of_a_container() -> None:
    """All of them, for a card is held by a child; the record's pid may be another program's by now."""
    record = run(boxed("chat", "one", pid=7), boxed("mini", "two", pid=8), server("old", pid=9))
    found = known([record], everything, engine(one=(70, 71)))

    assert found.pids == {70, 71, 9}
    assert known([run(server(pid=0))], everything).pids == frozenset()


def test_main_memory_of_containers_is_ours() -> None:
    """Also what a model on a card has there, and what fell back; not that of a container that is down."""
    record = run(
        boxed("chat", "one", Held("gpu0", 9 * GIB, "NVML"), main(1 * GIB), device_name="gpu0"),
        boxed("mini", "two", main(2 * GIB), device_name="cpu"),
        boxed("down", "gone", main(4 * GIB), device_name="cpu"),
        boxed("whole", "three", device_name="cpu", memory_bytes=8 * GIB),
        replace(boxed("fallen", "four", main(16 * GIB), device_name="gpu0"), degraded="it runs on the CPU"),
    )
    ours = engine(one=(1,), two=(2,), three=(3,), four=(4,))

    assert known([record], everything, ours).main_bytes == (1 + 2 + 8 + 16) * GIB


def test_models_that_take_turns_hold_memory_once() -> None:
    """One of them is loaded at a time; a resident one of the same container counts beside them."""
    record = run(
        boxed("chat", "one", main(5 * GIB), group="turns"),
        boxed("code", "one", main(3 * GIB), group="turns"),
        boxed("mini", "one", main(1 * GIB)),
    )

    found = known([record], everything, engine(one=(1, 2)))
    assert (found.main_bytes, found.pids) == (6 * GIB, frozenset({1, 2}))


def test_a_server_that_is_not_ours_holds_what_is_not_ours() -> None:
    """Its memory is another program's use; what it gave is known all the same."""
    found = known([run(boxed("chat", "", main(5 * GIB), external="http://127.0.0.1:1/v1"))], everything)

    assert (found.main_bytes, found.pids, len(found.footprints)) == (0, frozenset(), 1)


def test_without_an_engine_containers_hold_nothing() -> None:
    """Their pids are not guessed from the record."""
    assert known([run(boxed("chat", "one", main(5 * GIB), pid=7))], everything).pids == frozenset()


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
