"""The gateway in a container, on a host whose models are in containers too: the whole line, and back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.lab.contained import Contained
from tests.lab.gateway_image import push_gateway

pytestmark = pytest.mark.real
IN_CONTAINER = {"PMOVES_GATEWAY": "container"}
CHAT = "tensorzero::function_name::chat"


@pytest.fixture(scope="module")
def served(contained_once: Contained) -> Contained:
    """Return a host that was provisioned with the gateway in a container."""
    push_gateway(contained_once.registry)
    contained_once.provision(**IN_CONTAINER)
    return contained_once


def gateways(host: Contained) -> list[str]:
    """Return the containers of gateways."""
    return [name for name in host.containers() if name.startswith("pmoves-gateway-2")]


def ask(host: Contained) -> str:
    """Ask the function `chat`; return which tier answered, or what went wrong."""
    question = "What is 17 + 25? Answer with the number only."
    body = {"model": CHAT, "messages": [{"role": "user", "content": question}]}
    try:
        reply = httpx.post(f"{host.host.gateway}/chat/completions", json=body, timeout=60, trust_env=False)
    except httpx.HTTPError as error:
        return repr(error)
    return str(reply.json()["model"] if reply.status_code == httpx.codes.OK else reply.text)


@contextmanager
def asking(host: Contained) -> Iterator[Counter[str]]:
    """Ask without a pause for a block; yields what came."""
    came, stop = Counter[str](), threading.Event()

    def on() -> None:
        while not stop.is_set():
            came[ask(host)] += 1

    threads = [threading.Thread(target=on) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        yield came
    finally:
        stop.set()
        for one in threads:
            one.join()


def test_it_answers(served: Contained) -> None:
    """A function is answered by this host's own model, through HAProxy or the front, from a container."""
    record = served.last()

    assert [record["route"]["container"]] == gateways(served)
    assert ask(served) == f"{CHAT}::variant_name::local"


def test_a_second_run_changes_nothing(served: Contained) -> None:
    """The same container goes on."""
    before = served.lives()
    record = served.provision(**IN_CONTAINER)

    assert record["outcome"] == "nothing to do"
    assert served.lives() == before


def test_a_new_config_and_the_way_back(served: Contained) -> None:
    """While clients ask, the config changes and comes back: other containers, and no request is lost."""
    first = gateways(served)
    with asking(served) as came:
        with served.changed("services/chat.yaml", lambda data: data["uses"][0].update(max_tokens=77)):
            changed = served.provision(**IN_CONTAINER)
        second = gateways(served)
        back = served.host.but(**IN_CONTAINER).json("rollback")
    third = gateways(served)

    assert came.total() > 10
    assert came == {f"{CHAT}::variant_name::local": came.total()}
    assert "value = 77" in changed["route"]["config"]
    assert "77" in changed["route"]["diff"]
    assert back["route"]["config"] != changed["route"]["config"]
    assert len({*first, *second, *third}) == 3


def test_down(served: Contained) -> None:
    """Everything goes, the gateway's container too."""
    served.host.pmoves("down")

    assert served.containers() == {}
    served.settled = False
