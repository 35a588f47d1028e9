"""Routes and runs, made up for tests of reports."""

from __future__ import annotations

from dataclasses import replace

from tasks.contracts import (
    Answer,
    Change,
    Plan,
    PlannedModel,
    PlannedRoute,
    ProcessState,
    Route,
    RouteTier,
    RunRecord,
    VerifiedServer,
)
from tests.lab.verified import verified_server

HOST = "lab-host"
GATEWAY = ProcessState(
    "gateway-g2", running=True, state="running", pid=7, started_at=0.0, spec_hash="", log="/log"
)
LOCAL = RouteTier("local", "local", "qwen")
VENICE = RouteTier("affordable", "venice", "venice/llama")
CLAUDE = RouteTier("premium", "anthropic", "anthropic/claude")
CHAT = PlannedRoute(
    "chat",
    "webui",
    "llm",
    "talks",
    tiers=(LOCAL, VENICE),
    complex_tiers=(CLAUDE, VENICE, LOCAL),
    left_out=("groq: GROQ_API_KEY is not set",),
)
FORMS = PlannedRoute("forms", "archon", "llm", "fills in forms", tiers=(LOCAL,))
CHAT_SERVER = verified_server("qwen", base_url="http://127.0.0.1:7991/v1", role="llm", runtime="llama.cpp")
RERANKER = verified_server("ranker", base_url="http://127.0.0.1:7992/v1", role="reranker", runtime="tei")
WHISPER = verified_server("ears", base_url="http://127.0.0.1:7993/v1", role="whisper", runtime="speaches")
ANSWERS = (
    Answer("a question to function chat", "an answer", "four", right=True, seconds=0.2),
    Answer("a question to function forms", "an answer", "", right=False, seconds=0.1),
)


def route(config: str = "[functions.chat]\n", **more: object) -> Route:
    """Return a route with two functions."""
    made = Route(
        base_url="http://127.0.0.1:3030/openai/v1",
        models=("tensorzero::function_name::chat", "tensorzero::function_name::forms"),
        config=config,
        config_hash="ab" * 32,
        process=GATEWAY,
        answers=ANSWERS,
        change=Change("process gateway-g2", "replace", "the config changes"),
        seconds=2.0,
        functions=(CHAT, FORMS),
        generation="g2",
        proxy="haproxy",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def plan(*models: PlannedModel, **more: object) -> Plan:
    """Return a plan of some models."""
    made = Plan(
        host=HOST,
        profile="embedded",
        profile_why="it was asked for",
        models=models or (CHAT_SERVER.server.planned,),
        decisions=(),
        download_bytes=0,
        disk_needed_bytes=0,
        disk_free_bytes=0,
        store="/store",
        advice=(),
        routes=(CHAT, FORMS),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def run(name: str = "r1", *verified: VerifiedServer, **more: object) -> RunRecord:
    """Return a good run."""
    made = RunRecord(
        run=name,
        version="0",
        host=HOST,
        started_at="2026-11-25T10:00:00+00:00",
        seconds=62.0,
        outcome="changed",
        error="",
        flow_run="",
        profile_wanted="auto",
        plan=plan(),
        verified=verified or (CHAT_SERVER, RERANKER, WHISPER),
        route=route(),
    )
    return replace(made, **more)  # type: ignore[arg-type]
