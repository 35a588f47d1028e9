"""`pmoves routes`: tiers in order, what answers now, shares of the last day, and the same as metrics."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flows.report_metrics import format_metrics
from flows.report_routes import Live, RoutesNow, Seen, format_routes, gather
from tasks.contracts import Answer, RouteTier, VerifiedServer
from tasks.route.proxy.contract import Count
from tests.lab.routes import CHAT, route, run

NOW = datetime(2026, 11, 25, 17, 30, tzinfo=UTC)
COUNTS = (
    Count("2026-11-25T17", "g2", "chat", "local", 200, 190),
    Count("2026-11-24T18", "g1", "chat", "local", 200, 4),
    Count("2026-11-25T16", "g2", "chat", "venice", 200, 6),
    Count("2026-11-25T16", "g2", "chat", "", 502, 3),
    Count("2026-11-25T16", "g2", "chat", "", 400, 2),
    Count("2026-11-25T17", "g2", "all-minilm-l6-v2", "", 200, 50),
    Count("2026-11-25T17", "g2", "all-minilm-l6-v2", "", 500, 1),
    # An hour too old for the last day.
    Count("2026-11-24T17", "g1", "chat", "local", 200, 1000),
    Count("2026-11-24T17", "g1", "forms", "local", 200, 9),
)
PROBES = (
    Answer("chat with tensorzero::function_name::other_chat", "", "", right=False, seconds=9.0),
    Answer("chat with tensorzero::function_name::chat", "4 by local", "4 by local", right=True, seconds=0.2),
)


def live(tier: RouteTier) -> Live:
    """Say that one cloud has no key."""
    if tier.tier == "local":
        return True, "up"
    return (False, "no key") if tier.name == "anthropic" else (True, "has a key")


def up(server: VerifiedServer) -> Live:
    """Say that the reranker is down."""
    down = server.server.planned.role == "reranker"
    return (False, "does not answer") if down else (True, "up")


SEEN = Seen(proxy_runs=True, active="g2", counts=COUNTS, live=live, up=up)
RECORD = run("r1", route=route(answers=PROBES, left_out=("code: nobody serves it",)))


def found(seen: Seen = SEEN, **more: object) -> RoutesNow:
    """Return what is gathered of the lab's run."""
    assert RECORD.route is not None
    return gather(RECORD, replace(RECORD.route, **more), seen, NOW)  # type: ignore[arg-type]


def test_the_whole_text() -> None:
    """Tiers in order, those for complex requests behind them, what is not a function below."""
    lines = textwrap.dedent(
        """\
        http://127.0.0.1:3030/openai/v1  generation g2, config sha256 abababababab, behind haproxy (run r1)

        FUNCTION  FOR     TIER                 BY                NOW        LAST DAY         LAST PROBE
        chat      webui   1 local              qwen              up         97% (194)        right in 200 ms
                          2 venice             venice/llama      has a key  3% (6)
                          complex 1 anthropic  anthropic/claude  no key     -
                          complex 2 venice     venice/llama      has a key  -
                          complex 3 local      qwen              up         -
                                                                            3 of 205 failed
        forms     archon  1 local              qwen              up         -                -

        OTHER REQUESTS OF THE LAST DAY  ALL  FAILED
        all-minilm-l6-v2                51   1

        BESIDE THE GATEWAY  MODEL   ADDRESS                   NOW
        reranker            ranker  http://127.0.0.1:7992/v1  does not answer
        whisper             ears    http://127.0.0.1:7993/v1  up

        Left out:
          chat: groq: GROQ_API_KEY is not set
          code: nobody serves it"""
    )

    assert format_routes(found()) == lines


def test_shares_are_of_what_was_answered_in_the_last_day() -> None:
    """What failed was answered by no tier, and what is older counts no more."""
    chat, forms = found().functions

    assert [(one.name, one.requests, one.share) for one in chat.tiers] == [
        ("local", 194, 0.97),
        ("venice", 6, 0.03),
    ]
    assert (chat.requests, chat.failed) == (205, 3)
    assert (forms.requests, forms.tiers[0].share) == (0, 0.0)


def test_a_tier_for_complex_requests_alone_has_its_share() -> None:
    """It is counted like any other."""
    counted = (*COUNTS, Count("2026-11-25T17", "g2", "chat", "anthropic", 200, 1))

    text = format_routes(found(replace(SEEN, counts=counted)))

    assert "complex 1 anthropic  anthropic/claude  no key     under 1% (1)" in text


def test_a_probe_belongs_to_the_function_of_that_very_name() -> None:
    """`other_chat` ends like `chat`."""
    chat, forms = found().functions

    assert chat.probe == PROBES[1]
    assert forms.probe is None


@pytest.mark.parametrize(
    ("seen", "more", "says"),
    [
        (
            replace(SEEN, proxy_runs=False),
            {},
            "the proxy (haproxy) does not run, so http://127.0.0.1:3030/openai/v1 is closed",
        ),
        (
            replace(SEEN, active="g3"),
            {},
            "the proxy sends to g3, and the last good run left g2",
        ),
        (replace(SEEN, active=""), {}, "the proxy sends to no gateway, and the last good run left g2"),
    ],
)
def test_what_does_not_fit_is_said(seen: Seen, more: dict[str, object], says: str) -> None:
    """In one line, below the first."""
    gathered = found(seen, **more)

    assert gathered.trouble == (says,)
    assert not gathered.serving
    assert format_routes(gathered).splitlines()[1] == says
    assert found().serving


def test_a_host_that_serves_embeddings_alone_has_no_function() -> None:
    """It says so instead of an empty table."""
    text = format_routes(found(functions=()))

    assert "No function is served" in text
    assert "FUNCTION  " not in text


def test_a_function_that_nobody_answers_has_no_row() -> None:
    """It is named below; one that was asked all the same has its row, with what became of that."""
    nobody = replace(CHAT, function="archon", tiers=(), complex_tiers=())

    text = format_routes(found(functions=(CHAT, nobody)))
    counted = replace(SEEN, counts=(*COUNTS, Count("2026-11-25T17", "g2", "archon", "", 502, 4)))
    asked = format_routes(found(counted, functions=(CHAT, nobody)))

    assert "\nNobody answers archon.\n" in text
    assert "archon  " not in text
    assert "archon    webui  none" in asked
    assert "4 of 4 failed" in asked
    assert "Nobody" not in asked


def test_what_is_left_out_of_several_functions_stands_once() -> None:
    """With the functions that lack it; what the whole gateway lacks is not said a second time."""
    more = replace(CHAT, function="archon", left_out=("groq: GROQ_API_KEY is not set", "no model for llm"))

    text = format_routes(
        found(functions=(CHAT, more), left_out=("no model for llm", "groq: GROQ_API_KEY is not set", "x"))
    )

    assert text.split("Left out:\n")[1].splitlines() == [
        "  chat and archon: groq: GROQ_API_KEY is not set",
        "  archon: no model for llm",
        "  x",
    ]


def test_names_cannot_move_the_terminal() -> None:
    """They come from files of other people and from what clients send."""
    odd = (Count("2026-11-25T17", "g2", "x\x1b[2J\ny", "", 200, 1),)

    text = format_routes(found(replace(SEEN, counts=odd)))

    assert "\x1b" not in text


# --- metrics -------------------------------------------------------------------------------------


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return what Prometheus' own parser reads, by name and the values of the labels."""
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text + "\n")
        for one in family.samples
    }


def test_which_models_served_how_many_requests() -> None:
    """The question of the guide, with tiers and how requests ended; all hours and gateways together."""
    read = samples(format_metrics(found(), COUNTS))

    total = "pmoves_gateway_requests_day"
    assert {key: value for key, value in read.items() if key[0] == total} == {
        (total, "chat", "local", "local", "200"): 1194,
        (total, "chat", "venice", "affordable", "200"): 6,
        (total, "chat", "", "", "502"): 3,
        (total, "chat", "", "", "400"): 2,
        (total, "forms", "local", "local", "200"): 9,
        (total, "all-minilm-l6-v2", "", "", "200"): 50,
        (total, "all-minilm-l6-v2", "", "", "500"): 1,
    }
    assert read["pmoves_gateway_tier_live", "chat", "anthropic", "premium"] == 0
    assert read["pmoves_gateway_tier_live", "chat", "venice", "affordable"] == 1
    assert read["pmoves_gateway_up", "g2", "ab" * 32, "haproxy"] == 1
    away = format_metrics(found(replace(SEEN, proxy_runs=False)), ())
    assert samples(away)["pmoves_gateway_up", "g2", "ab" * 32, "haproxy"] == 0


@given(st.text(st.sampled_from('\\"\n{}=, a'), max_size=20))
def test_no_name_breaks_out_of_its_label(name: str) -> None:
    """Clients choose the names of models that they ask for."""
    counted = (Count("2026-11-25T17", "g2", name, name, 200, 7),)

    read = samples(format_metrics(found(), counted))

    assert read["pmoves_gateway_requests_day", name, name, "", "200"] == 7


def test_what_is_written_by_hand_and_what_is_asked_by_name() -> None:
    """A function that no service has is the operator's; models of this host stand beside the functions."""
    made = route(
        "[functions.chat]\n[functions.mine]\n",
        models=("tensorzero::function_name::chat", "tensorzero::embedding_model_name::minilm"),
    )
    now = gather(RECORD, made, SEEN, NOW)
    text = format_routes(now)

    assert (now.yours, now.by_name) == (("mine",), ("tensorzero::embedding_model_name::minilm",))
    assert "Written by you: mine." in text
    assert "By name, answered by this host:\n  tensorzero::embedding_model_name::minilm" in text
    assert gather(RECORD, route("[functions"), SEEN, NOW).yours == ()
