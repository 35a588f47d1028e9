"""Which run a rollback goes back to, and what of it has to be here still."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.report_rollback import format_going_back
from flows.rollback_choice import choose, refuse_gone, refuse_leaving, refuse_lost, serves
from tasks import catalogue
from tasks.contracts import (
    Image,
    OllamaTag,
    PlannedRoute,
    PlannedServer,
    RunRecord,
    Share,
    Speed,
    WheelMirror,
)
from tasks.errors import RefusedError, UsageError
from tasks.record import history
from tasks.record.history import History
from tests.lab.hosts import card, make_host
from tests.lab.routes import CHAT_SERVER, CLAUDE, HOST, LOCAL, VENICE, plan, route, run
from tests.lab.verified import verified_server

MODEL = CHAT_SERVER.server.planned
OLD = run("20261101t000000z-aaaa", route=route("[functions.old]\n"))
BAD = run("20261102t000000z-bbbb", outcome="failed", error="it broke", route=route("[functions.bad]\n"))
SAME = run("20261103t000000z-cccc", outcome="nothing to do")
NOW = run("20261104t000000z-dddd")
RUNS = History((OLD, BAD, SAME, NOW), 0)


def refused(to: str, runs: History = RUNS, host: str = HOST) -> str:
    """Return the sentence with which a choice is refused."""
    with pytest.raises((UsageError, RefusedError)) as caught:
        choose(runs, to, host)
    return str(caught.value)


# --- the choice ----------------------------------------------------------------------------------


def test_without_a_name_it_is_the_newest_good_run_that_served_something_else() -> None:
    """Neither one that failed nor one that left the same behind."""
    target = choose(RUNS, "", HOST)

    assert target.record == OLD
    assert target.now == NOW
    assert target.wanted == "rollback to 20261101t000000z-aaaa"


def test_a_second_rollback_goes_forth_again() -> None:
    """The run that was left is the newest that served something else."""
    back = replace(OLD, run="20261105t000000z-eeee")

    assert choose(History((*RUNS.records, back), 0), "", HOST).record == NOW


def test_a_run_is_named_whole_or_by_a_beginning() -> None:
    """The last good one too: it is served again."""
    assert choose(RUNS, OLD.run, HOST).record == OLD
    assert choose(RUNS, "20261101", HOST).record == OLD
    again = choose(RUNS, NOW.run, HOST)
    assert (again.record, again.now) == (NOW, None)


def test_a_whole_name_wins_over_a_longer_one() -> None:
    """The longer one only begins so."""
    longer = replace(NOW, run=f"{OLD.run}-2")

    assert choose(History((OLD, longer), 0), OLD.run, HOST).record == OLD


@pytest.mark.parametrize(
    ("to", "says"),
    [
        (
            "2026110",
            (
                "4 runs begin with '2026110' (20261101t000000z-aaaa, 20261102t000000z-bbbb,"
                " 20261103t000000z-cccc, …); nothing was changed; write more of its name."
            ),
        ),
        (
            "2025",
            "there is no run '2025' on this host; nothing was changed; `pmoves history` lists the runs.",
        ),
        (
            "20261102",
            (
                "run 20261102t000000z-bbbb ended as 'failed', so nobody has seen what it planned serve;"
                " nothing was changed; take another one: `pmoves history` lists the runs."
            ),
        ),
    ],
)
def test_a_name_that_is_none_to_go_back_to_is_refused(to: str, says: str) -> None:
    """In one sentence, before anything is done."""
    assert refused(to) == says


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ({"plan": None}, "run r1 has no plan in its record"),
        ({"route": None}, "run r1 has no gateway config in its record"),
        ({"route": route("")}, "run r1 has no gateway config in its record"),
        ({"host": "other"}, "run r1 is one of host other, and this is lab-host"),
        ({"outcome": "interrupted"}, "run r1 ended as 'interrupted', so nobody has seen"),
    ],
)
def test_a_record_without_what_is_needed_is_refused(lacking: dict[str, object], says: str) -> None:
    """It is no record to go back to, and by default it is passed over."""
    lame = replace(run("r1"), **lacking)  # type: ignore[arg-type]

    assert refused("r1", History((OLD, lame), 0)).startswith(says)
    assert choose(History((OLD, lame, NOW), 0), "", HOST).record == OLD


def test_a_run_of_a_version_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Its line is there, so "there is no such run" would be wrong; a torn line names none."""
    journal = tmp_path / "history.jsonl"
    history.append(journal, NOW)
    with journal.open("a") as file:
        file.write('{"run": "20270101t000000z-ffff", "version": 9}\n{"run": "20270102t0\n')

    found = history.read(journal)

    assert (found.unreadable, found.unread) == (2, ("20270101t000000z-ffff",))
    assert refused("20270101", found) == (
        "run 20270101t000000z-ffff was written by a version whose records this one cannot read; nothing was"
        " changed; go back to it with that version, or take another one: `pmoves history` lists the runs."
    )
    assert refused("20", found).startswith("2 runs begin with '20' (20261104t000000z-dddd, 20270101")
    assert refused("20270102", found).startswith("there is no run '20270102' on this host")


def test_where_there_is_nothing_to_go_back_to() -> None:
    """No good run at all, or none that served anything else."""
    assert refused("", History((BAD,), 0)) == (
        "no run of this host ended well yet; nothing was changed; run `pmoves provision` first."
    )
    assert refused("", History((SAME, NOW), 0)) == (
        "no earlier good run of this host served anything else than run 20261104t000000z-dddd does; it still"
        " serves; name a run with --to to serve it again: `pmoves history` lists the runs."
    )


def test_what_is_measured_makes_no_other_plan() -> None:
    """Estimates turn into measurements and disks fill up; what is served stays the same."""
    learnt = replace(
        MODEL,
        memory_bytes=1,
        memory_measured=True,
        download_bytes=5,
        speed=Speed(9.0, "tokens/s", "measured"),
    )
    fuller = run("r2", plan=plan(learnt, disk_free_bytes=7, warnings=("full",)))

    assert serves(fuller) == serves(run("r1"))


@pytest.mark.parametrize(
    "changed",
    [
        {"context": 4096},
        {"quantisation": "q8_0"},
        {"residency": "on-demand"},
        {"devices": (Share("gpu1", 5),)},
        {"ollama": OllamaTag(tag="qwen:7b", size_bytes=5), "weights": None},
        {"port": 9},
    ],
)
def test_what_is_served_makes_another_plan(changed: dict[str, object]) -> None:
    """Also where the gateway's config stays the same."""
    other = run("r2", plan=plan(replace(MODEL, **changed)))  # type: ignore[arg-type]

    assert serves(other) != serves(run("r1"))


# --- what is still here --------------------------------------------------------------------------

IMAGE = Image(
    runtime="llama.cpp",
    accelerator="cpu",
    architectures=("x86_64",),
    repository="lab/llama",
    tag="1",
    port=8080,
    size_bytes=1,
    size_basis="made up",
    sources=(),
)
CONTAINED = PlannedServer("llama-qwen", "llama.cpp", "resident", ("gpu1",), ("qwen",), 7991, (), image=IMAGE)


def test_containers_need_an_engine() -> None:
    """A rollback to them is refused before a process is stopped for them."""
    target = choose(History((run("r1", plan=plan(servers=(CONTAINED,))), NOW), 0), "r1", HOST)

    with pytest.raises(RefusedError) as caught:
        refuse_gone(target, make_host(engine=False))

    assert str(caught.value) == (
        "run r1 served llama-qwen in containers, and no container engine answers (no socket); what run"
        " 20261104t000000z-dddd left still serves; start the engine, or take another run: `pmoves history`"
        " lists the runs."
    )


def test_devices_have_to_be_here() -> None:
    """Those of servers and those of models; main memory always is."""
    target = choose(History((run("r1", plan=plan(servers=(CONTAINED,))), NOW), 0), "r1", HOST)

    with pytest.raises(RefusedError, match="run r1 used gpu1, and this host has gpu0 now"):
        refuse_gone(target, make_host(cards=(card(),)))
    with pytest.raises(RefusedError, match="run r1 used gpu1, and this host has no such device now"):
        refuse_gone(target, make_host())

    refuse_gone(target, make_host(cards=(card(), card())))
    refuse_gone(choose(RUNS, "", HOST), make_host(engine=False))


def test_weights_have_to_be_here_or_to_be_had() -> None:
    """A hub, a mirror, a folder or a wheel may have them; a library has the tags."""
    target = choose(RUNS, "", HOST)
    filed = verified_server("filed").server.planned
    tagged = replace(filed, model="tagged", weights=None, ollama=OllamaTag(tag="t:1", size_bytes=1))
    assert filed.weights is not None
    offline = make_host(hub=False)

    with pytest.raises(RefusedError) as caught:
        refuse_lost(target, (filed,), offline, elsewhere=False)
    with pytest.raises(RefusedError, match=r"\(tagged\), and Ollama library does not answer"):
        refuse_lost(target, (tagged,), offline, elsewhere=False)

    assert str(caught.value) == (
        f"run {OLD.run} needs weights that are not here any more (filed), and Hugging Face Hub does not"
        f" answer; what run {NOW.run} left still serves; connect this host, or name a folder that has them in"
        " PMOVES_WEIGHTS_FROM, or take another run: `pmoves history` lists the runs."
    )
    refuse_lost(target, (filed,), offline, elsewhere=True)
    refuse_lost(target, (filed, tagged), make_host(), elsewhere=False)
    refuse_lost(target, (), offline, elsewhere=False)
    mirror = WheelMirror(project="p", version="1", filename="f", size_bytes=1, sha256="", prefix="")
    from_wheel = replace(
        filed, weights=type(filed.weights)(repo="m/m", revision="0" * 40, files=(), wheel=mirror)
    )
    refuse_lost(target, (from_wheel,), offline, elsewhere=False)


# --- what would be done --------------------------------------------------------------------------


def test_a_look_says_what_a_rollback_would_do() -> None:
    """Against what serves now, with the bytes that are missing today and the gateway's config."""
    smaller = replace(MODEL, context=4096)
    served = replace(OLD, plan=plan(smaller), route=route("[functions.old]\n", config_hash="cd" * 32))
    looked = run(
        "look",
        profile_wanted=f"rollback to {OLD.run}",
        plan=plan(replace(smaller, download_bytes=5 << 30), profile_why="run r of then had it"),
        route=None,
    )

    shown = format_going_back(
        looked, History((served, replace(NOW, plan=plan(replace(MODEL, context=8192)))), 0)
    )

    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == "run r of then had it"
    assert "+ weights qwen create 5.0 GiB are missing" in lines
    assert "~ server model-qwen replace context of qwen 8192 → 4096" in lines
    assert "~ gateway replace config sha256 abababab to cdcdcdcd" in lines


@pytest.mark.parametrize(
    ("now", "says"),
    [(NOW, "gateway keep config sha256 abababab is in use"), (None, "+ gateway create config")],
)
def test_a_config_that_is_in_use_stays(now: RunRecord | None, says: str) -> None:
    """And one where none is in use is new."""
    looked = run("look", profile_wanted=f"rollback to {SAME.run}", route=None)
    failed = replace(SAME, outcome="changed") if now else replace(BAD, run=SAME.run)

    shown = format_going_back(looked, History(tuple(filter(None, (failed, now))), 0))

    assert says in " ".join(shown.split())


# --- what may leave the house --------------------------------------------------------------------

HIRAG = PlannedRoute("hirag", "hi-rag-v2", "llm", "answers", tiers=(LOCAL, VENICE))
AGENT = PlannedRoute(
    "agent_zero", "agent-zero", "llm", "thinks", tiers=(LOCAL,), complex_tiers=(CLAUDE, LOCAL)
)


@pytest.mark.parametrize(
    ("functions", "may_leave", "named"),
    [
        ((HIRAG,), None, "hirag to venice/llama"),
        ((HIRAG,), frozenset(), "hirag to venice/llama"),
        ((HIRAG,), frozenset({"hirag"}), ""),
        ((AGENT,), None, ""),
        ((AGENT,), frozenset(), "agent_zero to anthropic/claude"),
        ((HIRAG, AGENT), frozenset(), "agent_zero and hirag to anthropic/claude and venice/llama"),
        ((replace(HIRAG, tiers=(LOCAL,)),), frozenset(), ""),
        ((replace(HIRAG, function="gone"),), None, "gone to venice/llama"),
    ],
)
def test_what_may_not_leave_now_does_not_leave_with_an_old_config(
    functions: tuple[PlannedRoute, ...], may_leave: frozenset[str] | None, named: str
) -> None:
    """A config of a time when it might is refused; what no service is known for may not either."""
    target = choose(RUNS, OLD.run, HOST)
    target = replace(target, route=replace(target.route, functions=functions))
    shelf = catalogue.load()
    if not named:
        refuse_leaving(target, shelf, may_leave)
        return
    with pytest.raises(RefusedError) as caught:
        refuse_leaving(target, shelf, may_leave)
    assert str(caught.value) == (
        f"the config of run {OLD.run} may send prompts of {named}, and they are to stay in the house now;"
        " nothing was changed; allow it with PMOVES_CLOUD, or take another run."
    )
