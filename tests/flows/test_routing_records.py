"""The database beside the gateway: where a profile asks for it, and where it no longer does."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import yaml

from flows import routing_records, servers
from flows.routing_kinds import Watch
from flows.routing_records import PORT, Records, end_unwanted, records, refuse_without_engine
from flows.settings import Settings, load
from tasks import catalogue
from tasks.contracts import Route, silent
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.effects.supervisord import Supervisord
from tasks.errors import RefusedError
from tasks.route.observability import NAME
from tests.lab.hosts import make_host
from tests.lab.routes import plan, route

IMAGE = "clickhouse/clickhouse-server:25.8-alpine"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> MemoryEngine:
    """Return the engine that every look finds; a registry has the database's image."""
    made = MemoryEngine("lab-host")
    made.offer(IMAGE)
    monkeypatch.setattr(servers, "engine", lambda _settings: made)
    return made


def host(folder: Path, observability: str | None) -> Settings:
    """Return settings of a host whose profile `embedded` asks for this."""
    profiles = folder / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    shutil.copytree(catalogue.DEFAULT, profiles)
    path = profiles / "hardware" / "embedded.yaml"
    profile = yaml.safe_load(path.read_text())
    if observability is not None:
        profile["gateway"] = {"observability": observability}
    path.write_text(yaml.safe_dump(profile, sort_keys=False))
    return load(
        {"HOME": str(folder), "PMOVES_STATE": str(folder / "state"), "PMOVES_PROFILES": str(profiles)}
    )


def brought(settings: Settings, engine: MemoryEngine, back: Route | None = None) -> Records:
    """Return the records of a host with the plan of `embedded`; a database that runs answers."""

    def answer(request: Request) -> Reply:
        state = engine.find(NAME)
        if state is None or not state.running or request.url != f"http://127.0.0.1:{PORT}/ping":
            raise HttpError("the connection is refused")
        return Reply(200, b"Ok.\n", 0.001)

    watch = Watch(Supervisord(settings.state), threading.Event(), silent)
    return records(settings, make_host(), plan(), MemoryHttp(answer), watch=watch, back=back)


@pytest.mark.parametrize("asked", [None, "none"])
def test_it_is_off_by_default(tmp_path: Path, engine: MemoryEngine, asked: str | None) -> None:
    """Nothing is fetched and nothing made."""
    assert brought(host(tmp_path, asked), engine) == Records()
    assert engine.images == set()


def test_where_a_profile_asks(tmp_path: Path, engine: MemoryEngine) -> None:
    """Its image is fetched and pinned; the gateway gets an address whose password no one else sees."""
    settings = host(tmp_path, "clickhouse")
    found = brought(settings, engine)

    password = (settings.state / "gateway" / "clickhouse" / "password").read_text()
    assert found.url == f"http://tensorzero:{password}@127.0.0.1:{PORT}/tensorzero"
    assert [one.kind for one in found.changes] == ["create"]
    assert password not in repr(found)
    assert IMAGE in (settings.state / "images.lock.json").read_text()


def test_where_it_no_longer_does(tmp_path: Path, engine: MemoryEngine) -> None:
    """It stays until the run has another gateway; then the container goes, and its data stays."""
    settings = host(tmp_path, "clickhouse")
    brought(settings, engine)
    without = host(tmp_path, "none")
    found = brought(without, engine)
    there = engine.find(NAME)
    done = end_unwanted(without, make_host(), plan(), None)

    assert (found, there is not None) == (Records(), True)
    assert [(one.kind, one.resource) for one in done] == [("remove", f"container {NAME}")]
    assert engine.find(NAME) is None
    assert (settings.state / "gateway" / "clickhouse" / "data").is_dir()


def test_the_config_of_an_earlier_run_decides(tmp_path: Path, engine: MemoryEngine) -> None:
    """A rollback brings the database back where that config has it, whatever the profile says now."""
    kept = route("[gateway]\nobservability.enabled = true\n")
    settings = host(tmp_path, "none")
    found = brought(settings, engine, kept)

    assert found.url is not None
    assert end_unwanted(settings, make_host(), plan(), kept) == ()
    assert brought(host(tmp_path, "clickhouse"), engine, route()) == Records()
    with pytest.raises(RefusedError, match="the config of that run has the gateway's requests kept"):
        refuse_without_engine(settings, make_host(engine=False), plan(), kept)


def test_without_an_engine(tmp_path: Path, engine: MemoryEngine) -> None:
    """It is refused before byte one, by a sentence that names the profile and the way on without it."""
    settings, facts = host(tmp_path, "clickhouse"), make_host(engine=False)
    with pytest.raises(RefusedError) as caught:
        refuse_without_engine(settings, facts, plan())

    assert str(caught.value) == (
        "profile embedded wants the gateway's requests kept in ClickHouse, and no container engine answers"
        " (no socket); nothing was downloaded or started; mend that, or set `gateway: {observability: none}`"
        " in the profile."
    )
    assert routing_records.wanted(settings, plan())
    assert engine.calls == []
