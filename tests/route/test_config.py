"""The text that verified servers are rendered to."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from tasks.contracts import VerifiedServer
from tasks.errors import RouteError
from tasks.route.config import api_base, model_names, render
from tests.lab.verified import verified_server

CASES = sorted((Path(__file__).parents[1] / "cases" / "route" / "rendered").glob("*.json"))


def servers(case: Path) -> tuple[VerifiedServer, ...]:
    """Read the servers of a case."""
    return tuple(verified_server(**row) for row in json.loads(case.read_text()))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rendered(case: Path) -> None:
    """Each case renders to the bytes of the file beside it."""
    expected = case.with_suffix(".toml").read_text()

    assert expected == render(servers(case))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_no_phoning_home(case: Path) -> None:
    """Nothing that is rendered reports usage, keeps requests or stores objects."""
    config = tomllib.loads(render(servers(case)))

    assert config["gateway"] == {
        "observability": {"enabled": False},
        "disable_pseudonymous_usage_analytics": True,
    }
    assert config["object_storage"] == {"type": "disabled"}


def test_order_does_not_matter() -> None:
    """Servers are verified in any order; the text is the same."""
    all_servers = tuple(verified_server(name) for name in ("c", "a", "b"))

    assert {render(all_servers)} == {render(order) for order in permutations(all_servers)}


def test_measurements_do_not_matter() -> None:
    """A server that was slower this time gets the same config."""
    fast = verified_server()
    slow = VerifiedServer(fast.server, (), latency_s=9.0, texts_per_s=0.1, memory_bytes=1)

    assert render((fast,)) == render((slow,))


def test_names() -> None:
    """Clients send the kind of model before its name, as TensorZero wants it."""
    names = model_names((verified_server("b"), verified_server("a")))

    assert names == ("tensorzero::embedding_model_name::a", "tensorzero::embedding_model_name::b")


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_api_base(given: str) -> None:
    """However a server gives its address, the gateway gets one that ends in `/v1/`."""
    assert api_base(given) == "http://h:1/v1/"


def test_roles_that_the_gateway_has_no_api_for() -> None:
    """Rerankers and whisper are asked where they are; they are no reason to refuse the rest."""
    alone = (verified_server("a"),)
    more = (verified_server("b", role="reranker"), *alone, verified_server("c", role="whisper"))

    assert render(alone) == render(more)
    assert model_names(alone) == model_names(more)


def test_only_roles_that_the_gateway_has_no_api_for() -> None:
    """With nothing to route to, the gateway is refused."""
    with pytest.raises(RouteError, match="no verified model server to route to"):
        render((verified_server("b", role="reranker"),))


def test_one_model_on_two_servers() -> None:
    """A model that two roles have on servers of their own has both names."""
    both = (verified_server("q", role="llm"), verified_server("q", role="code"))

    assert model_names(both) == ("tensorzero::model_name::q-code", "tensorzero::model_name::q-llm")


def test_the_gateway_asks_by_the_servers_own_name() -> None:
    """Ollama knows a model by another name than the catalogue."""
    one = verified_server("qwen", role="llm")
    known = replace(one, server=replace(one.server, model_id="pmoves/qwen:q4_0-8192"))

    config = tomllib.loads(render((known,)))

    assert "pmoves/qwen:q4_0-8192" == config["models"]["qwen"]["providers"]["embedded"]["model_name"]


def test_same_model_twice() -> None:
    """Two servers of one model cannot share its name."""
    with pytest.raises(RouteError, match="2 servers of embeddings have the model all-minilm-l6-v2"):
        render((verified_server(), verified_server()))


def test_nothing() -> None:
    """A gateway without any model is refused, not rendered."""
    with pytest.raises(RouteError, match="no verified model server"):
        render(())
