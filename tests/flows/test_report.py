"""Reports: aligned, escaped, and with a line that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from flows import evidence, report
from tasks import catalogue
from tasks.contracts import (
    Answer,
    Change,
    ContainerState,
    Performance,
    ProcessState,
    Role,
    Route,
    RunRecord,
    StoreView,
    Timing,
    VerifiedServer,
)
from tasks.detect.example import from_example
from tasks.plan.choose import Request, make_plan
from tasks.record.history import History
from tests.lab import routes
from tests.lab.bundles import ALL_OFFERS
from tests.lab.hosts import make_host
from tests.lab.verified import verified_server


def route() -> Route:
    """Return a route as the gateway leaves it."""
    process = ProcessState(
        "gateway", running=True, state="running", pid=7, started_at=0.0, spec_hash="", log=""
    )
    return Route(
        base_url="http://127.0.0.1:3030/openai/v1",
        models=("tensorzero::embedding_model_name::mini",),
        config="",
        config_hash="ab" * 32,
        process=process,
        answers=(Answer("embeddings of mini", "384", "384", right=True, seconds=0.016),),
        change=Change("process gateway", "keep", "unchanged"),
        seconds=0.1,
    )


def test_where_a_host_answers_that_has_a_proxy() -> None:
    """The public address is the proxy's, as a process or a container; the gateway is behind it."""
    served = replace(route(), process=replace(route().process, name="gateway-g1"), proxy="haproxy")
    boxed = replace(served, container="pmoves-gateway-g1")

    assert report.addresses(replace(record(), route=served)) == {
        "gateway-g1": "behind gateway-proxy",
        "gateway-proxy": "http://127.0.0.1:3030/openai/v1",
    }
    assert report.addresses(replace(record(), route=boxed))["pmoves-gateway-g1"] == "behind gateway-proxy"
    assert report.addresses(replace(record(), route=route())) == {
        "gateway": "http://127.0.0.1:3030/openai/v1"
    }


def test_a_rollback_is_named_by_where_it_went() -> None:
    """Its plan has the profile of that time, which says nothing of it."""
    back = replace(record(), profile_wanted="rollback to 20261125t100000z-aaaa", plan=routes.plan())
    forth = replace(record(), plan=routes.plan())

    lines = report.format_history(History((forth, back), 0), 5).splitlines()

    assert "rollback to 20261125t100000z-aaaa" in lines[1]
    assert "embedded" in lines[2]


def record(error: str = "") -> RunRecord:
    """Return a small record."""
    return RunRecord(
        run="r1",
        version="0",
        host="lab-host",
        started_at="2026-11-23T00:00:00+00:00",
        seconds=1.0,
        outcome="failed" if error else "changed",
        error=error,
        flow_run="f1",
        profile_wanted="auto",
        facts=make_host(),
        route=route(),
    )


def test_columns_are_aligned_and_empty_cells_show() -> None:
    """An empty cell prints as a dash; no line ends in blanks."""
    assert "A   BB\nxy  -\n-   z" == report.columns(("A", "BB"), [("xy", ""), ("", "z")])


def test_what_comes_from_outside_cannot_break_a_table() -> None:
    """Markup, pipes and line breaks in a name stay text."""
    table = evidence.markdown(("Name",), [("<script>alert(1)</script> | `x`\nnext",)])

    assert "<script>" not in table
    assert len(table.splitlines()) == 3
    assert "\\|" in table


def test_an_error_with_markup_stays_text_in_the_artifact() -> None:
    """The error of a run is escaped as well."""
    shown = evidence.markdown_run(record("a <img src=x onerror=y> and ![p](http://x/y.png) failed"))

    assert "<img" not in shown
    assert "[p]" not in shown


def test_the_curl_line_is_one_valid_command() -> None:
    """A shell splits it into the address and a JSON body with the model's full name."""
    words = shlex.split(report.curl_line(route()))

    assert "http://127.0.0.1:3030/openai/v1/embeddings" in words
    assert {"model": "tensorzero::embedding_model_name::mini", "input": "hello"} == json.loads(words[-1])


def test_the_curl_line_has_the_token_where_one_is_wanted() -> None:
    """From the shell: only its digest is known here."""
    line = report.curl_line(route(), guarded=True)

    assert '"authorization: Bearer $PMOVES_GATEWAY_TOKEN"' in line
    assert line in report.format_run(replace(record(), route=route()), "", guarded=True)
    assert "authorization" not in report.format_run(replace(record(), route=route()), "")


def test_the_curl_line_asks_a_chat_model_where_there_is_one() -> None:
    """Embeddings of a chat model would be an error; a gateway without models gets no line."""
    names = ("tensorzero::embedding_model_name::mini", "tensorzero::model_name::chat")
    words = shlex.split(report.curl_line(replace(route(), models=names)))

    assert "http://127.0.0.1:3030/openai/v1/chat/completions" in words
    assert {"model": names[1], "messages": [{"role": "user", "content": "hello"}]} == json.loads(words[-1])
    assert "Try it" not in report.format_run(replace(record(), route=replace(route(), models=())), "")


def measured(role: Role, **figures: float) -> VerifiedServer:
    """Return a server that was measured."""
    made = verified_server("mini", role=role)
    return replace(made, texts_per_s=0.0, performance=Performance(**figures))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        (measured("llm", tokens_per_s=42.4, first_token_s=0.18), "42 tokens/s, first token after 180 ms"),
        (measured("code", tokens_per_s=9.96), "10 tokens/s"),
        (measured("vision", tokens_per_s=0.43, first_token_s=12), "0.4 tokens/s, first token after 12 s"),
        (measured("llm", tokens_per_s=0.01), "under 0.1 tokens/s"),
        (measured("embeddings", texts_per_s=812.3), "812 texts/s"),
        (measured("reranker", texts_per_s=31), "31 docs/s"),
        (measured("whisper", realtime=11.6), "12 x realtime"),
        (measured("whisper"), ""),
        (verified_server("mini"), "100 texts/s"),
    ],
)
def test_each_role_has_its_own_figure(one: VerifiedServer, shown: str) -> None:
    """Tokens of chat, texts, documents, speech; records older than the figures have texts alone."""
    (row,) = report.server_rows((one,), None)

    assert shown == row[report.SERVER_HEAD.index("SPEED")]


def test_what_is_wrong_stands_below_the_table() -> None:
    """First what is not where the plan has it, then findings; each in one line, whatever is in it."""
    bad = replace(verified_server("chat"), degraded="it runs on the CPU", findings=("half\nas \x1b[1mfast",))
    slow = replace(verified_server("mini"), findings=("it took long",))
    lines = report.format_run(replace(record(), verified=(slow, bad)), "").splitlines()
    at = lines.index("DEGRADED: chat: it runs on the CPU")

    assert ["finding: mini: it took long", "finding: chat: half as  [1mfast", ""] == lines[at + 1 : at + 4]
    assert any(line.startswith("gateway") for line in lines[:at])
    assert not report.troubles((verified_server(),))


def test_a_run_of_several_chains_says_which_was_the_longest() -> None:
    """One chain alone has nothing that it could hide."""
    chain = (Timing("pull", "chat", 0, 60), Timing("pull", "mini", 0, 5))
    long = replace(record(), seconds=62, timings=chain)

    assert "its longest chain, chat, took 60 s" in report.format_run(long, "")
    assert "chain" not in report.format_run(replace(long, timings=chain[:1]), "")


PROCESS = ProcessState("gateway", running=True, state="running", pid=7, started_at=90, spec_hash="", log="/l")


def test_status_has_a_table_of_each_kind() -> None:
    """Where a container answers is what the last run left, else the port that is published now."""
    image = f"ghcr.io/ggml-org/llama.cpp@sha256:{'ab' * 32}"
    containers = (
        ContainerState("pmoves-chat", "1", "running", server="chat", image=image, started_at=40, published=9),
        ContainerState("pmoves-mini", "2", "running", server="mini", published=10, restarts=3),
        ContainerState(
            "pmoves-big", "3", "exited", server="big", exit_code=137, oom_killed=True, published=11
        ),
        ContainerState("pmoves-bad", "4", "exited", exit_code=1),
    )
    text = report.format_status((PROCESS,), {"chat": "http://127.0.0.1:8101/v1"}, 5, 100.0, containers)
    processes, boxes = text.split("\n\n")

    assert [line.split() for line in processes.splitlines()[1:]] == [
        ["supervisord", "running", "5", "-", "-", "-"],
        ["gateway", "running", "7", "10", "s", "-", "/l"],
    ]
    assert [re.split(r"  +", line) for line in boxes.splitlines()] == [
        ["CONTAINER", "STATE", "RESTARTS", "UP", "ADDRESS", "IMAGE"],
        ["pmoves-chat", "running", "-", "60 s", "http://127.0.0.1:8101/v1",
         "ghcr.io/ggml-org/llama.cpp@sha256:abababababab"],
        ["pmoves-mini", "running", "3", "-", "http://127.0.0.1:10", "-"],
        ["pmoves-big", "exited (out of memory)", "-", "-", "-", "-"],
        ["pmoves-bad", "exited (code 1)", "-", "-", "-", "-"],
    ]  # fmt: skip


def test_status_leaves_out_what_is_not_there() -> None:
    """Without processes, containers alone; without both, one sentence."""
    alone = report.format_status((), {}, 0, 0.0, (ContainerState("pmoves-chat", "1", "running"),))

    assert alone.startswith("CONTAINER")
    assert "nothing runs" == report.format_status((), {}, 0, 0.0)


def test_the_last_run_knows_where_containers_answer() -> None:
    """By the name of the server as by that of its container; a process has no container."""
    made = verified_server("chat")
    boxed = replace(made, server=replace(made.server, name="chat", container="pmoves-chat"))
    found = report.addresses(replace(record(), verified=(boxed, verified_server("mini"))))

    assert found == {
        "chat": "http://127.0.0.1:8101/v1",
        "pmoves-chat": "http://127.0.0.1:8101/v1",
        "model": "http://127.0.0.1:8101/v1",
        "gateway": "http://127.0.0.1:3030/openai/v1",
    }


def test_a_run_shows_where_its_evidence_is() -> None:
    """The text names the run's page in the UI."""
    text = report.format_run(record(), "http://127.0.0.1:4200")

    assert "Evidence: http://127.0.0.1:4200/runs/flow-run/f1" in text
    assert "changed in 1.0 s (run r1)" in text


def test_the_artifact_holds_the_memory_picture() -> None:
    """The picture is in the page itself, so that it needs no file and no address."""
    shelf = catalogue.load(catalogue.DEFAULT)
    facts = from_example(shelf.profiles["rtx-3090-ti"], host="lab-host")
    plan = make_plan(
        facts,
        shelf,
        offers=ALL_OFFERS,
        store=StoreView("/store", {}),
        request=Request("rtx-3090-ti"),
    )

    shown = evidence.markdown_run(replace(record(), plan=plan))
    data = re.search(r"\]\(data:image/svg\+xml;base64,([^)]*)\)", shown)

    assert data is not None
    assert ET.fromstring(b64decode(data[1])).tag.endswith("svg")  # noqa: S314  # made here
    assert "**taken**" in shown
    assert "Agent Zero: served" in shown
    assert len(shown) < 100_000
