"""Which runtimes a host offers, and why it does not offer the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import HostFacts, Reach, RuntimeOffer
from tasks.plan.offers import offers
from tasks.plan.request import OllamaMode
from tests.lab.hosts import device, make_host

URL = "http://127.0.0.1:11434"
NO_ENGINE = "no container engine answers (no socket)"
MUTE = f"no Ollama answers at {URL} (nobody listens there)"


def host(*, engine: bool, ollama: bool = False, mac: bool = False, architecture: str = "x86_64") -> HostFacts:
    """Return a host on which an engine and an Ollama answer, or do not."""
    facts = make_host(engine=engine, cards=(device("apple"),) if mac else ())
    detail = "version 0.33.3" if ollama else "nobody listens there"
    return replace(
        facts,
        system=replace(facts.system, architecture=architecture),
        ollama=Reach("Ollama on this host", URL, answers=ollama, detail=detail),
    )


def test_an_engine_offers_every_container() -> None:
    """And the program its own runtime, on the processor that its engine is built for."""
    found = offers(host(engine=True))

    assert {name for name, one in found.items() if one.available} == set(found)
    assert {one.external for one in found.values()} == {""}
    assert offers(host(engine=True, architecture="aarch64"))["embedded"] == RuntimeOffer(
        "embedded", available=False, reason="its engine is not built for aarch64"
    )


def test_without_an_engine_no_container_is_offered() -> None:
    """With what the engine said."""
    found = offers(host(engine=False))

    assert {name for name, one in found.items() if one.available} == {"embedded"}
    assert {found[name].reason for name in ("tei", "llama.cpp", "vllm", "speaches")} == {NO_ENGINE}
    assert found["ollama"].reason == f"{NO_ENGINE}, and {MUTE}"


@pytest.mark.parametrize(
    ("mode", "engine", "ollama", "mac", "want"),
    [
        ("auto", True, True, False, ""),
        ("auto", True, True, True, URL),
        ("auto", True, False, True, ""),
        ("auto", False, True, False, URL),
        ("own", True, True, True, ""),
        ("external", True, True, False, URL),
        ("external", False, True, False, URL),
    ],
)
def test_which_ollama_is_offered(
    *, mode: OllamaMode, engine: bool, ollama: bool, mac: bool, want: str
) -> None:
    """A container, unless there is none, a person wants the other, or it would have no GPU."""
    found = offers(host(engine=engine, ollama=ollama, mac=mac), ollama=mode)["ollama"]

    assert (found.available, found.external) == (True, want)


@pytest.mark.parametrize(
    ("mode", "engine", "ollama", "says"),
    [
        ("own", False, True, NO_ENGINE),
        ("external", True, False, MUTE),
        ("external", False, False, MUTE),
        ("auto", False, False, f"{NO_ENGINE}, and {MUTE}"),
    ],
)
def test_why_no_ollama_is_offered(*, mode: OllamaMode, engine: bool, ollama: bool, says: str) -> None:
    """Of the one that was asked for."""
    found = offers(host(engine=engine, ollama=ollama), ollama=mode)["ollama"]

    assert (found.available, found.reason) == (False, says)
