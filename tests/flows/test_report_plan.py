"""A plan as text: a row a role, every step when it is asked for, and lines that fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.report_plan import (
    Sheet,
    format_difference,
    format_models,
    format_plan,
    plan_rows,
    plan_summary,
    service_line,
    service_rows,
)
from flows.report_plan_routes import left_out_lines, route_rows, routes_table
from tasks.contracts import Decision, Fallback, Plan, PlanChange, Role, ServedUse, ServicePlan, Use, Wish
from tasks.contracts import Service as ServiceShape
from tasks.plan.request import Request
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

CHAT = decoder("chat", roles=("llm", "code"), sizes_mib=(6000, 4000), heads=32)
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
CLOUDS = (
    Fallback(cloud="venice/qwen3-235b"),
    Fallback(cloud="groq/gpt-oss-120b"),
    Fallback(cloud="anthropic/claude-sonnet-4-6"),
)
SERVICE = ServiceShape(
    name="archon", title="Archon", uses=(Use(role="llm", purpose="answers", models=("chat",), context=65536),)
)
ROUTED = ServiceShape(
    name="archon",
    title="Archon",
    uses=(
        Use(
            role="llm",
            purpose="answers",
            models=("chat",),
            context=65536,
            function="archon",
            may_leave=True,
            fallbacks=CLOUDS,
        ),
        Use(
            role="vision",
            purpose="sight",
            required=False,
            function="archon_sees",
            fallbacks=CLOUDS[-1:],
        ),
    ),
)
SHELF = shelf_of(
    (CHAT, VECTORS),
    (
        Wish(role="llm", models=("chat",), context=32768, min_context=4096, may=()),
        Wish(role="code", models=("chat",), context=16384, min_context=4096, may=("share",)),
        Wish(role="embeddings", models=("vectors",), may=()),
        Wish(role="whisper", reason="the lab hears nothing"),
    ),
    services=(SERVICE,),
)


def plan(mib: int = 8500) -> Plan:
    """Return a plan with a changed, a shared, a kept and a dropped role."""
    return planned_on(make_host(cards=(device(mib=mib),)), SHELF, Request("lab"))


def row(made: Plan, role: Role) -> tuple[str, ...]:
    """Return the row of one role."""
    return next(tuple(one) for one in plan_rows(made) if one[0] == role)


def test_every_role_has_one_row() -> None:
    """Placed or not, in the order of the bundle."""
    assert [one[0] for one in plan_rows(plan())] == ["llm", "code", "embeddings", "whisper"]


def test_a_row_says_what_goes_where() -> None:
    """Model and variant, runtime, residency, device, memory, context, download."""
    found = row(plan(24000), "llm")

    assert found[:6] == ("llm", "kept", "chat v0", "ollama", "resident", "gpu0")
    assert found[6].endswith(" GiB est.")
    assert found[7] == "32768 f16"
    assert found[9] == "5.9 GiB"


def test_a_role_that_shares_a_server_names_it() -> None:
    """Its memory and its download are not counted twice."""
    found = row(plan(24000), "code")

    assert found[2:7] == ("chat v0", "ollama", "resident", "gpu0", "with llm")
    assert found[9] == ""


def test_a_dropped_role_has_a_row_of_blanks() -> None:
    """The verdict is there all the same."""
    assert row(plan(), "whisper") == ("whisper", "dropped", "", "", "none", "", "", "", "", "")


def test_what_was_measured_is_no_estimate() -> None:
    """Only estimates say that they are."""
    made = plan()
    measured = replace(made, models=tuple(replace(one, memory_measured=True) for one in made.models))

    assert "est." in row(made, "llm")[6]
    assert "est." not in row(measured, "llm")[6]


def test_every_role_stands_once_in_the_table() -> None:
    """The text has the table's head and one line for each role below it."""
    lines = format_plan(plan()).splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("ROLE "))

    assert [line.split()[0] for line in lines[head + 1 : head + 5]] == [
        "llm",
        "code",
        "embeddings",
        "whisper",
    ]
    assert lines[head + 5] == ""


def test_without_explain_a_role_has_its_one_sentence() -> None:
    """The verdict and why."""
    made = plan()
    text = " ".join(format_plan(made).split())

    for one in made.decisions:
        assert f"{one.role}: {one.verdict}: {' '.join(one.why.split())}" in text


def test_with_explain_every_step_is_printed() -> None:
    """A plus for what was taken, a minus for what was not; a role without steps has its sentence."""
    made = plan()
    text = " ".join(format_plan(made, explain=True).split())
    steps = [step for one in made.decisions for step in one.steps]

    assert len(steps) > len(made.decisions)
    for step in steps:
        assert f"{'+' if step.taken else '-'} {step.text}" in text
    assert "whisper: dropped: the lab hears nothing" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("explain", [True, False])
def test_wrapped_lines_are_no_wider_than_the_terminal(width: int, explain: bool) -> None:  # noqa: FBT001  # a column
    """Sentences are wrapped; a table is as wide as it has to be."""
    made = plan()
    lines = format_plan(made, explain=explain, sheet=Sheet(width)).splitlines()
    heads = ("ROLE ", "SERVICE ", "FUNCTION ", "IMAGE ")
    tables = set().union(*(_table(lines, head) for head in heads))

    assert [line for at, line in enumerate(lines) if at not in tables and len(line) > width] == []


def _table(lines: list[str], head: str) -> set[int]:
    """Return the numbers of the lines of the table with that head."""
    start = next((at for at, line in enumerate(lines) if line.startswith(head)), len(lines))
    end = next((at for at in range(start, len(lines)) if not lines[at]), len(lines))
    return set(range(start, end))


def test_columns_that_say_nothing_are_left_out() -> None:
    """No context and no speed where no model has one."""
    made = planned_on(
        make_host(cards=(device(),)), shelf_of((VECTORS,), (Wish(role="embeddings", models=("vectors",)),))
    )
    head = next(line for line in format_plan(made).splitlines() if line.startswith("ROLE "))

    assert "CONTEXT" not in head
    assert "SPEED" not in head
    assert "DOWNLOAD" in head


def test_what_is_assumed_and_marked_is_said() -> None:
    """And a plan for a host that is not here is not applied here."""
    made = replace(plan(), assumed=("its store is empty",), marks=("chat: gated on the Hub.",))
    text = " ".join(format_plan(made).split())

    assert "Assumed: its store is empty." in text
    assert "chat: gated on the Hub." in text
    assert "on such a host" in text
    assert "on such a host" not in format_plan(plan())


def test_the_summary_counts_models_and_bytes() -> None:
    """Or says that there is nothing to do."""
    made = plan(24000)
    there = replace(made, models=tuple(replace(one, download_bytes=0) for one in made.models))

    assert plan_summary(made) == (
        "2 models to download (6.4 GiB); disk: 6.9 GiB needed, 500.0 GiB free in /store;"
        " container images: 2, about 4.7 GiB, kept by the engine"
    )
    assert plan_summary(there) == (
        "nothing to download; 500.0 GiB free in the store;"
        " container images: 2, about 4.7 GiB, kept by the engine"
    )


def test_services_are_listed_with_a_star_for_what_changes() -> None:
    """And the note says where to read what."""
    text = format_plan(plan())

    assert service_rows(plan().services) == [("Archon", "yes", "llm chat*")]
    assert "* not as the service asks; what that changes: pmoves plan --explain" in text
    assert "SERVICE" not in format_plan(replace(plan(), services=()))


def test_a_service_that_has_what_it_wants_has_no_star() -> None:
    """Nor a note; one need that is met in two uses is listed once; what nobody meets is a dash."""
    use = ServedUse("llm", "answers", "chat", as_wished=True, why="")
    missing = ServedUse("whisper", "hearing", "", as_wished=False, why="nobody")
    served = ServicePlan("a", "A", served=True, uses=(use, replace(use, purpose="summaries")))
    text = format_plan(replace(plan(), services=(served,)))

    assert service_rows([served]) == [("A", "yes", "llm chat")]
    assert "* not as the service asks" not in text
    assert service_rows([ServicePlan("b", "B", served=False, uses=(missing,))]) == [("B", "no", "whisper -*")]


def test_with_explain_services_say_what_changes() -> None:
    """One sentence each."""
    made = plan()
    line = service_line(made.services[0])

    assert line.startswith("Archon: served; answers by chat (it sends up to 65536 tokens and chat takes ")
    assert line.endswith(": cut longer ones).")
    assert line in " ".join(format_plan(made, explain=True).split())


def test_a_service_that_is_not_served_says_what_is_missing() -> None:
    """And why."""
    use = ServedUse("llm", "answers", "", as_wished=False, why="the bundle has no role llm")

    assert service_line(ServicePlan("a", "A", served=False, uses=(use,))) == (
        "A: not served; no answers (the bundle has no role llm)."
    )


def test_a_difference_is_counted() -> None:
    """A sign for each kind of change, the numbers of each, and the bytes."""
    changes = (
        PlanChange("weights chat", "create", "5.9 GiB are new", 6000 << 20),
        PlanChange("server a", "replace", "port 1 → 2"),
        PlanChange("server b", "remove", "b is no longer planned"),
        PlanChange("route llm", "keep", "to chat"),
        PlanChange("route code", "keep", "to chat"),
    )

    lines = format_difference(changes).splitlines()

    assert lines[0].split() == ["RESOURCE", "CHANGE", "WHY"]
    assert [line[0] for line in lines[1:-1]] == ["+", "~", "-", " ", " "]
    assert lines[-1] == "1 to create, 1 to replace, 1 to remove and 2 to keep; 5.9 GiB to fetch"


def test_a_difference_without_bytes_fetches_nothing() -> None:
    """It says so."""
    text = format_difference((PlanChange("route llm", "keep", "to chat"),))

    assert text.endswith("0 to create, 0 to replace, 0 to remove and 1 to keep; nothing to fetch")


def test_models_have_a_row_a_variant() -> None:
    """The model's name stands at its first; a role leaves out the others."""
    lines = format_models(SHELF, "").splitlines()
    of_role = format_models(SHELF, "embeddings").splitlines()

    assert [line.split()[0] for line in lines] == ["MODEL", "chat", "-", "vectors"]
    assert "v1" in lines[2]
    assert [line.split()[0] for line in of_role] == ["MODEL", "vectors"]


def test_a_decision_without_a_reason_is_still_a_line() -> None:
    """The table does not depend on steps."""
    bare = Decision("code", "dropped", "none", None, "the profile wants none")

    assert "code: dropped: the profile wants none" in format_plan(
        replace(plan(), decisions=(bare,)), explain=True
    )


def test_a_table_that_is_too_wide_for_a_narrow_sheet_is_a_paragraph_a_role() -> None:
    """Nothing of a row is lost, and no line is wider than the sheet."""
    made = plan()
    lines = format_plan(made, sheet=Sheet(70, narrow=True)).splitlines()
    text = " ".join(" ".join(lines).split())

    assert not any(line.startswith("ROLE ") for line in lines)
    for one in plan_rows(made):
        assert all(cell in text for cell in one if cell)
    services = _table(lines, "SERVICE ")
    assert [line for at, line in enumerate(lines) if at not in services and len(line) > 70] == []
    assert any(
        line.startswith("ROLE ") for line in format_plan(made, sheet=Sheet(170, narrow=True)).splitlines()
    )


def test_a_table_that_is_too_wide_for_a_small_sheet_stays_a_table() -> None:
    """What reads a pipe or a file finds a row a role, however few columns its terminal has."""
    made = plan()
    lines = format_plan(made, sheet=Sheet(70)).splitlines()
    rows = [lines[at].split() for at in sorted(_table(lines, "ROLE "))]

    assert [row[0] for row in rows] == ["ROLE", *(one.role for one in made.decisions)]
    assert [row[1] for row in rows] == ["VERDICT", *(one.verdict for one in made.decisions)]
    assert max(len(lines[at]) for at in _table(lines, "ROLE ")) > 70


def test_a_terminal_without_block_signs_gets_ascii() -> None:
    """The bars, too."""
    assert "█" in format_plan(plan())
    assert format_plan(plan(), sheet=Sheet(ascii_only=True)).isascii()


def test_what_applies_a_plan_has_its_options() -> None:
    """The line can be pasted."""
    text = format_plan(plan(), apply="lab --set llm.context=8192 --vram 20GiB")

    assert "Apply: pmoves provision lab --set llm.context=8192 --vram 20GiB" in " ".join(text.split())


def test_warnings_come_before_the_table() -> None:
    """A device that is filled to the last on the strength of estimates; not one with room, or with none."""
    full = plan(mib=5450)
    lines = format_plan(full).splitlines()

    assert [one.split(" has ")[0] for one in full.warnings] == ["gpu0"]
    assert "to spare beside its margin of 0 bytes" in full.warnings[0]
    assert lines.index(next(line for line in lines if line.startswith("gpu0 has"))) < lines.index(
        next(line for line in lines if line.startswith("ROLE "))
    )
    assert plan(mib=24000).warnings == ()


# --- routes --------------------------------------------------------------------------------------


def routed(*cloud: str) -> Plan:
    """Return a plan with routes, with some keys."""
    shelf = replace(SHELF, services={"archon": ROUTED})
    return planned_on(make_host(cards=(device(),)), shelf, Request("lab", cloud=cloud))


def test_a_function_has_a_row_with_its_tiers_in_order() -> None:
    """Premium stands apart, because it answers only what is marked."""
    assert route_rows(routed("venice", "groq", "anthropic").routes) == [
        ("archon", "chat, venice/qwen3-235b, groq/gpt-oss-120b", "anthropic/claude-sonnet-4-6"),
        ("archon_sees", "", ""),
    ]


def test_without_a_premium_cloud_there_is_no_column_for_it() -> None:
    """It would say nothing."""
    table = routes_table(routed("venice").routes)[0].splitlines()

    assert table[0].split(maxsplit=1) == ["FUNCTION", "ANSWERED BY, IN THIS ORDER"]
    assert table[1].split() == ["archon", "chat,", "venice/qwen3-235b"]
    assert table[2].split() == ["archon_sees", "-"]


def test_a_plan_says_how_many_steps_are_left_out_and_with_explain_which() -> None:
    """Sentences that several functions have stand once, with the names of all."""
    made = routed("venice")
    short, long = format_plan(made), " ".join(format_plan(made, explain=True).split())

    assert "4 steps of these routes are left out; why: pmoves plan --explain" in short
    assert "archon: groq/gpt-oss-120b would take over, but GROQ_API_KEY is not set." in long
    assert "archon_sees: this host has no model for vision." in long
    assert (
        "archon_sees: prompts of archon_sees stay in the house, so anthropic/claude-sonnet-4-6 is left out."
        in long
    )


def test_functions_with_the_same_step_left_out_share_its_line() -> None:
    """And a plan that lacks none says nothing."""
    (one, _) = routed("venice").routes
    both = (replace(one, function="b"), replace(one, function="a"))

    assert left_out_lines(both, explain=True)[0].startswith("a and b: groq/gpt-oss-120b would take over")
    assert left_out_lines((replace(one, left_out=()),), explain=True) == []
    assert left_out_lines((replace(one, left_out=()),), explain=False) == []
    assert left_out_lines((replace(one, left_out=("x",)),), explain=False) == [
        "1 step of these routes is left out; why: pmoves plan --explain"
    ]


def test_a_narrow_sheet_has_a_model_a_line() -> None:
    """What does not fit beside the others stands below its function."""
    lines = routes_table(routed("venice", "groq", "anthropic").routes, 40)

    assert lines == [
        "archon",
        "  chat",
        "  venice/qwen3-235b",
        "  groq/gpt-oss-120b",
        "  where marked as complex: anthropic/claude-sonnet-4-6",
        "archon_sees",
        "  nobody",
    ]


def test_a_plan_without_functions_has_no_table_of_them() -> None:
    """As with a catalogue that names none."""
    assert "FUNCTION" not in format_plan(replace(routed(), routes=()))
    assert routes_table(()) == []
