"""What HAProxy lets in, hands on and counts, seen on the wire."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.route.proxy.contract import Door, Target
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_config import BUFFER_BYTES, HEAD_BYTES
from tests.lab.gateway import until
from tests.lab.haproxy import CHAT, FakeGateway, answer, client_of, event, model, proxied, raw, who
from tests.lab.tls import Authority

pytestmark = pytest.mark.real
LOCAL = model("chat", "local")
TOKEN = "a token"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HaProxy, FakeGateway]]:
    """Return a proxy for this module, and the gateway behind it."""
    with proxied(tmp_path_factory.mktemp("wire") / "state") as made, FakeGateway("blue") as gateway:
        made.point(gateway.target)
        yield made, gateway


@pytest.fixture
def gateway(shared: tuple[HaProxy, FakeGateway]) -> FakeGateway:
    """Return the gateway, which has heard nothing yet."""
    shared[1].asked.clear()
    return shared[1]


@pytest.fixture
def proxy(shared: tuple[HaProxy, FakeGateway], gateway: FakeGateway) -> HaProxy:
    """Return the proxy; answers of a test are counted under a name of its own."""
    name = f"t{time.monotonic_ns()}"
    shared[0].point(Target(name, gateway.target.port))
    return shared[0]


@pytest.fixture
def client(proxy: HaProxy) -> Iterator[httpx.Client]:
    """Return a client of the public port."""
    with client_of(proxy) as made:
        yield made


def counted(proxy: HaProxy) -> set[tuple[str, str, int, int]]:
    """Return what the target of this test answered: function, variant, status and how often."""
    target = proxy.active()
    assert target is not None
    mine = [one for one in proxy.counts() if one.target == target.name]
    return {(one.function, one.variant, one.status, one.requests) for one in mine}


# --- counts --------------------------------------------------------------------------------------


def test_answers(proxy: HaProxy, client: httpx.Client) -> None:
    """By function and variant, however often; a model that was asked by its name has no variant."""
    for _ in range(3):
        client.post(CHAT, json={"say": answer(LOCAL)})
    client.post(CHAT, json={"say": answer(model("chat", "venice"))})
    client.post("/openai/v1/embeddings", json={"say": answer("tensorzero::embedding_model_name::minilm")})
    client.post(CHAT, json={"say": answer("tensorzero::model_name::qwen2.5-7b")})

    assert counted(proxy) == {
        ("chat", "local", 200, 3),
        ("chat", "venice", 200, 1),
        ("minilm", "", 200, 1),
        ("qwen2.5-7b", "", 200, 1),
    }


def test_a_stream(proxy: HaProxy, client: httpx.Client) -> None:
    """The first event tells who answers, and nothing of the stream is changed."""
    events = [event(LOCAL, f"word {number}") for number in range(50)]
    with client.stream("POST", CHAT, json={"events": events}) as reply:
        lines = [line for line in reply.iter_lines() if line]

    assert lines == [*(f"data: {one}" for one in events), "data: [DONE]"]
    assert counted(proxy) == {("chat", "local", 200, 1)}


@pytest.mark.parametrize("first", [event(LOCAL, ""), "{}"])
def test_a_stream_is_not_held_back(client: httpx.Client, gateway: FakeGateway, first: str) -> None:
    """The first event arrives while the gateway still thinks about the second, however small it is."""
    gateway.release.clear()
    with client.stream("POST", CHAT, json={"hold": True, "events": [first, "2"]}) as reply:
        lines = (line for line in reply.iter_lines() if line)
        seen = next(lines)
        gateway.release.set()
        rest = list(lines)

    assert (seen, rest) == (f"data: {first}", ["data: 2", "data: [DONE]"])


@pytest.mark.parametrize("status", [400, 429, 500, 502])
def test_errors(proxy: HaProxy, client: httpx.Client, status: int) -> None:
    """They count with their status; a name in them is not believed."""
    reply = client.post(CHAT, json={"say": answer(LOCAL), "status": status})

    assert (reply.status_code, reply.text) == (status, answer(LOCAL))
    assert counted(proxy) == {("", "", status, 1)}


def test_a_large_answer(proxy: HaProxy, client: httpx.Client) -> None:
    """One that does not fit the buffer is whole, and counts without names."""
    large = answer(LOCAL, "x" * 4 * BUFFER_BYTES)
    reply = client.post(CHAT, json={"say": large})
    nearly = client.post(CHAT, json={"say": answer(LOCAL, "x" * (BUFFER_BYTES - 4096))})

    assert reply.text == large
    assert nearly.status_code == 200
    assert counted(proxy) == {("", "", 200, 1), ("chat", "local", 200, 1)}


SPOOFED = '"model":"tensorzero::function_name::evil::variant_name::evil"'


@pytest.mark.parametrize(
    "text",
    [
        answer(LOCAL, SPOOFED),
        answer(LOCAL, '"}],' + SPOOFED + "}"),
        '{"choices":[{' + SPOOFED + '}],"model":"' + LOCAL + '"}',
        '{"choices":{"a":{' + SPOOFED + '}},"model":"' + LOCAL + '"}',
    ],
)
def test_what_an_answer_says(proxy: HaProxy, client: httpx.Client, text: str) -> None:
    """Only the field `model` of the answer itself tells who gave it, in a stream as well."""
    client.post(CHAT, json={"say": text})
    client.post(CHAT, json={"events": [text, event(model("other", "later"))]})

    assert counted(proxy) == {("chat", "local", 200, 2)}


@pytest.mark.parametrize(
    "named",
    [
        "gpt-4",
        "tensorzero::function_name::chat",
        "tensorzero::model_name::a|b|c 200",
        "tensorzero::model_name::a\nb",
        'tensorzero::model_name::a"} 9\nx{y="',
        "tensorzero::model_name::" + "x" * 129,
        "",
    ],
)
def test_names_that_are_none(proxy: HaProxy, client: httpx.Client, named: str) -> None:
    """What is not like a name of a config is not kept, and breaks neither the counts nor the metrics."""
    client.post(CHAT, json={"say": answer(named)})

    assert counted(proxy) == {("", "", 200, 1)}
    assert '"x' not in client.get("/metrics").text


def test_what_is_no_json(proxy: HaProxy, client: httpx.Client) -> None:
    """An answer that calls itself JSON and is not, or is something else, counts without names."""
    for type_ in ("application/json", "text/plain", "text/event-stream"):
        reply = client.post(CHAT, json={"say": '{"model": nonsense', "type": type_})

        assert reply.text == '{"model": nonsense'
    assert counted(proxy) == {("", "", 200, 3)}


def test_only_requests_for_models(proxy: HaProxy, client: httpx.Client) -> None:
    """Who looks whether it is well is not counted."""
    for path in ("/health", "/status", "/metrics", "/metrics/haproxy"):
        assert client.get(path).status_code == 200
    client.post("/inference", json={})

    assert counted(proxy) == {("f", "blue", 200, 1)}


def test_an_answer_that_breaks_off(client: httpx.Client) -> None:
    """A client can tell that it is not whole."""
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT, json={"cut": True})

    assert who(client) == "blue"


def test_metrics(proxy: HaProxy, client: httpx.Client) -> None:
    """They are Prometheus' text, with HELP and TYPE; HAProxy's own are there, too."""
    client.post(CHAT, json={"say": answer(LOCAL)})
    client.post(CHAT, json={"say": "{}", "status": 502})
    reply = client.get("/metrics")
    lines = reply.text.splitlines()
    target = proxy.active()

    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert lines[1] == "# TYPE pmoves_gateway_requests_total counter"
    assert target is not None
    labels = f'target="{target.name}",function="chat",variant="local",status="200"'
    assert f"pmoves_gateway_requests_total{{{labels}}} 1" in lines
    assert len(lines) == len(set(lines)) >= 4
    assert "# TYPE haproxy_backend_current_sessions gauge" in client.get("/metrics/haproxy").text


def test_metrics_are_what_prometheus_reads(proxy: HaProxy, client: httpx.Client) -> None:
    """Prometheus' own parser finds the counter and its labels."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    client.post(CHAT, json={"say": answer(LOCAL)})
    families = {one.name: one for one in parser.text_string_to_metric_families(client.get("/metrics").text)}
    target = proxy.active()
    assert target is not None
    found = [
        (sample.labels["function"], sample.labels["variant"], sample.labels["status"], sample.value)
        for sample in families["pmoves_gateway_requests"].samples
        if sample.labels["target"] == target.name
    ]

    assert found == [("chat", "local", "200", 1.0)]


def test_counts_side_by_side(proxy: HaProxy) -> None:
    """Requests of many clients at once are all counted."""

    def ask() -> None:
        with client_of(proxy) as client:
            for _ in range(25):
                who(client)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert counted(proxy) == {("f", "blue", 200, 200)}


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/internal/functions",
        "/mcp",
        "/v1/datasets",
        "/v1/inferences",
        "/batch_inference",
        "/openai",
        "/openai/v1",
        "/openai/v1/../../internal/functions",
        "/openai/v1/%2e%2e/%2e%2e/internal",
        "/openai/v1/x/..",
        "/openai/v1/./x",
        "//openai/v1/x",
        "/OPENAI/V1/x",
        "/inference/x",
        "/inferences",
        "/health/x",
        "/statusx",
        "/metrics/gateway",
        "*",
    ],
)
def test_paths_that_are_closed(proxy: HaProxy, gateway: FakeGateway, path: str) -> None:
    """They are not handed on."""
    host = "host: localhost\r\nconnection: close\r\n\r\n"
    method = "OPTIONS" if path == "*" else "GET"
    head, _, body = raw(proxy.door.port, f"{method} {path} HTTP/1.1\r\n{host}".encode()).partition(
        b"\r\n\r\n"
    )

    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"/openai/v1 is what OpenAI clients ask" in body
    assert gateway.asked == []


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/chat/completions", "/openai/v1/x?a=/../b&c=%20", "/inference", "/feedback", "/health"],
)
def test_paths_that_are_open(client: httpx.Client, gateway: FakeGateway, path: str) -> None:
    """They are handed on as they came, query and all."""
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())

    assert client.send(request).status_code == 200
    assert [asked for asked, _ in gateway.asked] == [path]


def test_what_is_handed_on(client: httpx.Client, gateway: FakeGateway) -> None:
    """Headers of the client arrive, its name of the host as well; connections to a gateway are not kept."""
    client.post(CHAT, json={}, headers={"x-mine": "1", "authorization": "Bearer k"})
    headers = {name.lower(): value for name, value in gateway.asked[0][1].items()}

    assert (headers["x-mine"], headers["authorization"]) == ("1", "Bearer k")
    assert headers["connection"] == "close"


# --- who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("LocalHost:1", 200),
        ("[::1]:8101", 200),
        ("rebound.example", 403),
        ("rebound.example:8101", 403),
        ("127.0.0.1.rebound.example", 403),
        ("localhost.rebound.example", 403),
        ("127x0x0x1", 403),
        ("192.168.1.5", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/metrics"])
def test_only_local_names(
    client: httpx.Client, gateway: FakeGateway, host: str, status: int, path: str
) -> None:
    """A page whose name was made to resolve to this host gets nothing."""
    reply = client.get(path, headers={"host": host})

    assert reply.status_code == status
    assert bool(gateway.asked) == (status == 200 and path == CHAT)
    assert status == 200 or reply.json()["error"]["type"] == "invalid_request_error"


def test_two_names(proxy: HaProxy, gateway: FakeGateway) -> None:
    """A request with two names is refused, and so is one with none."""
    for hosts in ("host: localhost\r\nhost: rebound.example\r\n", ""):
        request = f"GET {CHAT} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n".encode()

        assert raw(proxy.door.port, request)[9:12] in {b"400", b"403"}
    assert gateway.asked == []


def test_it_is_no_proxy(proxy: HaProxy, gateway: FakeGateway) -> None:
    """A whole address as the target is refused."""
    for scheme in ("http", "HTTPS"):
        request = f"GET {scheme}://localhost{CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

        assert raw(proxy.door.port, request.encode()).startswith(b"HTTP/1.1 400 ")
    assert gateway.asked == []


def test_a_large_head(client: httpx.Client, gateway: FakeGateway) -> None:
    """It is refused; a large one that still is one is not."""
    fits = client.post(CHAT, json={}, headers={"x-mine": "x" * (HEAD_BYTES - 1024)})
    too_large = client.post(CHAT, json={}, headers={"x-mine": "x" * HEAD_BYTES})
    far_too_large = client.get(CHAT, headers={"x-mine": "x" * 2 * BUFFER_BYTES})

    assert (fits.status_code, too_large.status_code) == (200, 431)
    assert far_too_large.status_code in {400, 431}  # the first from HAProxy 2.6, the other from 3.2
    assert too_large.json()["error"]["type"] == "invalid_request_error"
    assert len(gateway.asked) == 1


def test_a_large_request(client: httpx.Client) -> None:
    """A body of 20 MB goes through."""
    reply = client.post(CHAT, content=b"x" * (20 << 20))

    assert reply.status_code == 200


# --- other doors ---------------------------------------------------------------------------------


@pytest.fixture
def knowing(tmp_path: Path) -> Iterator[tuple[HaProxy, FakeGateway]]:
    """Return a proxy with a token."""
    with proxied(tmp_path / "state") as made, FakeGateway("blue") as gateway:
        digest = hashlib.sha256(TOKEN.replace(" ", "-").encode()).hexdigest()
        asking = replace(made, door=Door(made.door.port, token_sha256=digest))
        asking.point(gateway.target)
        yield asking, gateway


def test_a_token(knowing: tuple[HaProxy, FakeGateway]) -> None:
    """Without it nothing is answered, metrics included; it stays here, and no file holds it."""
    proxy, gateway = knowing
    refused: dict[str, Any] = {}
    with client_of(proxy) as client:
        for given in ("", "Bearer", "Bearer wrong", "Bearer a-token2", "a-token", "Basic a-token"):
            for path in (CHAT, "/metrics", "/metrics/haproxy", "/health", "/internal"):
                refused[f"{given} {path}"] = client.get(
                    path, headers={"authorization": given} if given else {}
                )
        heard = len(gateway.asked)
        good = [
            client.get(CHAT, headers={"authorization": f"{word} a-token"}) for word in ("Bearer", "bearer")
        ]
        metrics = client.get("/metrics", headers={"authorization": "Bearer a-token"})
        rebound = client.get(CHAT, headers={"authorization": "Bearer a-token", "host": "rebound.example"})

    assert {reply.status_code for reply in refused.values()} == {401}
    assert heard == 0
    one = next(iter(refused.values()))
    assert one.headers["www-authenticate"] == "Bearer"
    assert one.json()["error"]["type"] == "invalid_request_error"
    assert [reply.status_code for reply in good] == [200, 200]
    assert rebound.status_code == 403
    assert 'target="",function="",variant="",status="401"} 6' in metrics.text
    assert all("authorization" not in {name.lower() for name in headers} for _, headers in gateway.asked)
    assert all(b"a-token" not in path.read_bytes() for path in proxy.folder.iterdir() if path.is_file())


def test_tls(tmp_path: Path) -> None:
    """A certificate makes it HTTPS; a renewed one is used after the next `point`, without a restart."""
    authority = Authority.make(tmp_path / "ca")
    certificate = tmp_path / 'a "door"$x.pem'
    certificate.write_bytes(authority.issue().read_bytes())
    trusting = ssl.create_default_context(cafile=str(authority.bundle))
    with proxied(tmp_path / "state") as made, FakeGateway("blue") as gateway:
        proxy = replace(made, door=Door(made.door.port, certificate=certificate))
        proxy.point(gateway.target)
        with client_of(proxy, verify=trusting) as client:
            first = (who(client), client.get(CHAT, headers={"host": "gateway.example"}).status_code)
        serial = _serial(proxy.door.port, trusting)
        with client_of(made) as plain, pytest.raises(httpx.TransportError):
            plain.get(CHAT)
        certificate.write_bytes(authority.issue().read_bytes())
        proxy.point(gateway.target)
        until(lambda: _serial(proxy.door.port, trusting) != serial)
        with client_of(proxy, verify=trusting) as client:
            second = who(client)

    assert first == ("blue", 200)
    assert second == "blue"


def _serial(port: int, trusting: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as made,
        trusting.wrap_socket(made, server_hostname="localhost") as spoken,
    ):
        assert spoken.version() in {"TLSv1.2", "TLSv1.3"}
        found = spoken.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


@pytest.mark.parametrize("bind", ["0.0.0.0", "*"])
def test_a_wider_door(tmp_path: Path, bind: str) -> None:
    """One that is open to others answers under any name."""
    with proxied(tmp_path / "state") as made, FakeGateway("blue") as gateway:
        proxy = replace(made, door=Door(made.door.port, bind=bind))
        proxy.point(gateway.target)
        with client_of(proxy) as client:
            reply = client.post(CHAT, json={}, headers={"host": "tower.lan:3000"})

    assert reply.status_code == 200


def test_a_gateway_that_is_gone(tmp_path: Path) -> None:
    """Nothing is tried on another gateway, and the answer is one of OpenAI's shape."""
    with proxied(tmp_path / "state") as proxy, FakeGateway("blue") as blue, FakeGateway("green") as green:
        proxy.point(blue.target)
        proxy.point(green.target)
        green.stop()
        with client_of(proxy) as client:
            reply = client.post(CHAT, json={})

    assert reply.status_code == 503
    assert reply.json()["error"] == {
        "message": "the gateway does not answer",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert blue.asked == []


def test_a_gateway_that_comes_back(tmp_path: Path) -> None:
    """A connection that is refused is tried again, a request that arrived is not."""
    with proxied(tmp_path / "state") as proxy, FakeGateway("blue") as blue:
        proxy.point(blue.target)
        with client_of(proxy) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(CHAT, json={"cut": True})
            assert len(blue.asked) == 1
            blue.stop()
            back = threading.Timer(0.5, lambda: FakeGateway("blue", blue.target.port).__enter__())
            back.start()
            assert who(client) == "blue"
            back.join()
