"""A plan against the last good run: what would be done to each resource."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from tasks.contracts import (
    OllamaTag,
    Plan,
    PlanChange,
    PlannedModel,
    PlannedRoute,
    RouteTier,
    RunRecord,
    Wish,
)
from tasks.plan.difference import difference
from tasks.plan.request import Request, parse_overrides
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

MIB = 1 << 20
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm",), sizes_mib=(4000, 3000)),
        decoder("coder", roles=("code",), sizes_mib=(3000,)),
        encoder("vectors", role="embeddings", size_mib=600),
    ),
    (
        Wish(role="llm", models=("chat",), context=8192, min_context=2048, may=("wait",)),
        Wish(role="code", models=("coder",), context=8192, min_context=2048, may=("wait",)),
        Wish(role="embeddings", models=("vectors",), may=()),
    ),
)
HOST = make_host(cards=(device(),))


def made(*overrides: str) -> Plan:
    """Plan the bundle."""
    return planned_on(HOST, SHELF, Request("lab", overrides=parse_overrides(overrides, SHELF)))


def there(plan: Plan) -> Plan:
    """Return the same plan when everything is on the disk."""
    return replace(plan, models=tuple(replace(one, download_bytes=0) for one in plan.models))


def run(plan: Plan | None) -> RunRecord:
    """Return the good run of a plan, as the journal gives it back."""
    one = RunRecord(
        "r1", "0", "lab-host", "2026-11-23T00:00:00+00:00", 1.0, "changed", "", "", "lab", plan=plan
    )
    return msgspec.json.decode(msgspec.json.encode(one), type=RunRecord)


def only(changes: tuple[PlanChange, ...], resource: str) -> PlanChange:
    """Return the one change of a resource."""
    (found,) = [one for one in changes if one.resource == resource]
    return found


def test_the_first_run_creates_everything() -> None:
    """Weights, then servers, then routes."""
    found = difference(made(), None)

    assert {one.kind for one in found} == {"create"}
    assert [one.resource for one in found] == [
        "weights chat v0",
        "weights coder v0",
        "weights vectors fp32",
        "server ollama-gpu0",
        "server model-vectors",
        "route llm",
        "route code",
        "route embeddings",
    ]
    assert only(found, "weights chat v0") == PlanChange(
        "weights chat v0", "create", "3.9 GiB are new", 4000 * MIB
    )
    assert only(found, "server ollama-gpu0").reason == "to serve chat, coder"


def test_a_run_without_a_plan_is_no_run_to_compare_with() -> None:
    """It ended before there was one."""
    assert difference(made(), run(None)) == difference(made(), None)


def test_the_same_plan_keeps_everything() -> None:
    """Nothing is fetched, started or routed again."""
    found = difference(there(made()), run(made()))

    assert {one.kind for one in found} == {"keep"}
    assert sum(one.download_bytes for one in found) == 0
    assert len(found) == 8


def test_a_changed_setting_replaces_its_server_alone() -> None:
    """The reason has the key with both values."""
    found = difference(there(made("llm.context=4096", "code.context=4096")), run(made()))
    server = only(found, "server ollama-gpu0")

    assert server.kind == "replace"
    assert "OLLAMA_CONTEXT_LENGTH 8192 → 4096" in server.reason
    assert "context of chat 8192 → 4096" in server.reason
    assert only(found, "server model-vectors").kind == "keep"
    assert {one.kind for one in found if one.resource.startswith("route")} == {"keep"}


def test_a_setting_that_comes_or_goes_was_unset() -> None:
    """Neither side needs the key."""
    now = there(made())
    bare = replace(now, servers=tuple(replace(one, settings=one.settings[1:]) for one in now.servers))

    assert (
        "CUDA_DEVICE_ORDER unset → PCI_BUS_ID"
        in only(difference(now, run(bare)), "server ollama-gpu0").reason
    )
    assert (
        "CUDA_DEVICE_ORDER PCI_BUS_ID → unset"
        in only(difference(bare, run(now)), "server ollama-gpu0").reason
    )


def test_a_port_that_moves_replaces_the_server() -> None:
    """With both numbers."""
    moved = planned_on(HOST, SHELF, Request("lab", first_port=9000))

    assert only(difference(moved, run(made())), "server model-vectors").reason == "port 7991 → 9001"


def test_a_model_that_goes_is_taken_from_its_server_and_its_route() -> None:
    """Its weights stay, and its server is removed when nobody else is in it."""
    less = difference(there(made("code.residency=none")), run(made()))
    none = difference(there(made("embeddings.residency=none")), run(made()))

    assert "models chat+coder → chat" in only(less, "server ollama-gpu0").reason
    assert only(less, "route code") == PlanChange("route code", "remove", "coder is no longer planned")
    assert only(less, "weights coder v0") == PlanChange(
        "weights coder v0", "keep", "no longer planned; they stay on the disk"
    )
    assert only(none, "server model-vectors") == PlanChange(
        "server model-vectors", "remove", "vectors is no longer planned"
    )


def test_another_variant_replaces_server_and_weights() -> None:
    """Both variants are named."""
    found = difference(made("llm.quantisation=v1"), run(made()))

    assert only(found, "weights chat v1").kind == "create"
    assert only(found, "weights chat v0").reason == "no longer planned; they stay on the disk"
    assert "chat v0 → v1" in only(found, "server ollama-gpu0").reason
    assert only(found, "route llm").kind == "keep"


def _with_digest(plan: Plan, digest: str, download_bytes: int) -> Plan:
    def one(model: PlannedModel) -> PlannedModel:
        if model.model != "chat":
            return replace(model, download_bytes=0)
        tag = OllamaTag(tag="chat:0", size_bytes=4000 * MIB, digest=digest)
        return replace(model, ollama=tag, download_bytes=download_bytes)

    return replace(plan, models=tuple(one(model) for model in plan.models))


def test_another_digest_is_fetched_and_served_anew() -> None:
    """The same tag with other bytes is not the same weights."""
    now = _with_digest(made(), "b" * 64, 4000 * MIB)

    found = difference(now, run(_with_digest(made(), "a" * 64, 0)))

    assert [one for one in found if one.resource == "weights chat v0" and one.kind == "create"] == [
        PlanChange("weights chat v0", "create", "3.9 GiB are new", 4000 * MIB)
    ]
    assert only(found, "server ollama-gpu0").reason == "chat has other bytes"
    assert only(found, "server model-vectors").kind == "keep"


def test_bytes_that_were_there_and_are_gone_are_missing() -> None:
    """They are not new: the last run had them."""
    now = there(made())
    gone = replace(now, models=(*now.models[:2], replace(now.models[2], download_bytes=5 * MIB)))

    found = difference(gone, run(made()))

    assert only(found, "weights vectors fp32") == PlanChange(
        "weights vectors fp32", "create", "5.0 MiB are missing", 5 * MIB
    )


def test_a_role_that_another_model_plays_is_routed_anew() -> None:
    """Both models are named."""
    before = made()
    other = replace(before, models=tuple(replace(one, model=f"{one.model}-2") for one in before.models))

    found = difference(before, run(other))

    assert only(found, "route llm") == PlanChange("route llm", "replace", "chat-2 → chat")


def test_a_record_of_an_older_version_has_a_server_a_model() -> None:
    """It names none; a server that is called and set as before is kept, another is removed."""
    old = replace(
        made(), servers=(), models=tuple(replace(one, server="", context=0) for one in made().models)
    )

    found = difference(there(made()), run(old))

    assert only(found, "server model-chat").kind == "remove"
    assert only(found, "server ollama-gpu0").kind == "create"
    assert only(found, "server model-vectors").kind == "replace"
    assert only(found, "route llm").kind == "keep"


def test_the_embedded_server_of_an_older_version_is_kept() -> None:
    """It has no settings then and now, so nothing starts again after an upgrade."""
    shelf = shelf_of(
        (encoder("mini", role="embeddings", size_mib=90, runtime="embedded"),),
        (Wish(role="embeddings", models=("mini",), may=("cpu",)),),
    )
    now = there(planned_on(make_host(), shelf))

    found = difference(now, run(replace(now, servers=())))

    assert {one.kind for one in found} == {"keep"}


def test_functions_come_change_stay_and_go() -> None:
    """By their tiers in order; one that nobody answers is none."""
    local, cloud = RouteTier("local", "local", "chat"), RouteTier("affordable", "venice", "venice/a")
    best = RouteTier("premium", "anthropic", "anthropic/b")

    def routed(**tiers: tuple[RouteTier, ...]) -> Plan:
        return replace(
            made(),
            routes=tuple(
                PlannedRoute(
                    name,
                    "lab",
                    "llm",
                    "answers",
                    tuple(tier for tier in some if tier is not best),
                    some if best in some else (),
                )
                for name, some in tiers.items()
            ),
        )

    before = routed(same=(local,), other=(local,), goes=(local,), lost=(local,), marked=(local,))
    now = routed(same=(local,), other=(local, cloud), comes=(cloud,), lost=(), marked=(best, local))
    found = difference(now, run(before))

    assert [one for one in found if one.resource.startswith("function ")] == [
        PlanChange("function same", "keep", "to chat, as in the last run"),
        PlanChange("function other", "replace", "chat → chat, venice/a"),
        PlanChange("function comes", "create", "to venice/a"),
        PlanChange("function marked", "replace", "chat → chat (anthropic/b first where marked as complex)"),
        PlanChange("function goes", "remove", "nobody answers in the place of chat"),
        PlanChange("function lost", "remove", "nobody answers in the place of chat"),
    ]
