"""What `pmoves routes` looks at: which servers answer, which clouds have a key, what the proxy counted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.report_routes import RoutesNow
from flows.routes_now import answers, last_routes, look
from flows.settings import Settings, load
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import RefusedError
from tasks.record import history
from tasks.route.proxy.contract import Count, MemoryProxy, Target
from tests.lab.routes import RERANKER, route, run

NOW = datetime(2026, 11, 25, 17, 30, tzinfo=UTC)
COUNTS = [Count("2026-11-25T17", "g2", "chat", "local", 200, 3)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of the lab's host."""
    return load({"HOME": str(tmp_path), "PMOVES_STATE": str(tmp_path / "state"), "PMOVES_HOST": "lab-host"})


def replies(**by_port: int | str) -> MemoryHttp:
    """Return servers that answer with a status each, or not at all with a reason."""

    def answer(request: Request) -> Reply:
        port = request.url.split(":")[2].partition("/")[0]
        said = by_port[f"port{port}"]
        if isinstance(said, str):
            raise HttpError(said)
        return Reply(said, b"", 0.01)

    return MemoryHttp(answer)


def shown(settings: Settings, proxy: MemoryProxy) -> RoutesNow:
    """Return what is found of a run with three servers, of which one is down."""
    http = replies(port7991=200, port7992="connection refused", port7993=404)
    record = run("r1")
    assert record.route is not None
    return look(settings, record, record.route, proxy=proxy, http=http, now=NOW)[0]


def test_tiers_are_live_by_their_server_or_their_key(settings: Settings) -> None:
    """The key counts that the gateway has; what the environment of this command has does not."""
    keys = settings.state / "gateway" / "keys"
    keys.mkdir(parents=True)
    (keys / "g2.env").write_text('PMOVES_KEY_VENICE="v"\n')

    found = shown(settings, MemoryProxy(target=Target("g2", 1), up=True, counted=COUNTS))

    chat = found.functions[0]
    assert [(one.name, one.live, one.why) for one in (*chat.tiers, chat.complex_tiers[0])] == [
        ("local", True, "up"),
        ("venice", True, "has a key"),
        ("anthropic", False, "no key"),
    ]
    assert [(one.model, one.live, one.why) for one in found.outside] == [
        ("ranker", False, "down: connection refused"),
        ("ears", True, "up"),
    ]
    assert (found.serving, chat.tiers[0].requests) == (True, 3)


def test_a_proxy_that_is_gone_is_said(settings: Settings) -> None:
    """The rest is shown all the same."""
    found = shown(settings, MemoryProxy(target=Target("g2", 1), up=False))

    assert not found.serving
    assert len(found.trouble) == 1
    assert found.functions[0].tiers[0].live


def test_a_model_that_no_server_has_is_not_live(settings: Settings) -> None:
    """The record is of a run whose server was taken away since."""
    http = replies(port7992=200)
    record = run("r1", RERANKER)
    found, counts = look(settings, record, route(), proxy=MemoryProxy(), http=http, now=NOW)

    local = found.functions[0].tiers[0]
    assert (local.live, local.why) == (False, "no server has it")
    assert counts == ()


@pytest.mark.parametrize(
    ("status", "live"), [(200, True), (404, True), (401, True), (500, False), (503, False)]
)
def test_a_server_that_answers_is_up(status: int, live: bool) -> None:  # noqa: FBT001  # a case's value
    """Also without a list of models; an error of its own, or of the front before it, is none."""
    http = replies(port7991=status)

    assert answers("http://127.0.0.1:7991/v1/", http)[0] is live
    assert [one.url for one in http.requests] == ["http://127.0.0.1:7991/v1/models"]


def test_without_routes_there_is_one_sentence(settings: Settings) -> None:
    """No run at all, or none that came so far."""
    journal = history.journal(settings.state, settings.host)
    for record in (None, run("r1", route=None)):
        if record is not None:
            history.append(journal, record)
        with pytest.raises(RefusedError) as refused:
            last_routes(settings)
        assert str(refused.value) == (
            "no run of this host made routes yet; nothing was changed; run `pmoves provision`."
        )

    history.append(journal, run("r2"))
    assert last_routes(settings)[0].run == "r2"
