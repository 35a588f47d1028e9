"""`pmoves routes` and `pmoves rollback` on one simulated host, with the real gateway behind a real proxy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.host import LabHost

pytestmark = pytest.mark.real

HAND = """\
# the operator's own
[gateway]
debug = false
observability.enabled = false
disable_pseudonymous_usage_analytics = true
"""
MODEL = "all-minilm-l6-v2"


@contextmanager
def asked_all_the_time(host: LabHost) -> Iterator[list[str]]:
    """Ask the gateway again and again; collect what went wrong."""
    failures: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                host.embed("still here")
            except httpx.HTTPError as error:
                failures.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield failures
    finally:
        over.set()
        asking.join()


def config(host: LabHost) -> str:
    """Return the config that the last run left."""
    return str(host.json("history")[0]["route"]["config"])


def test_a_rollback_brings_the_config_of_before_back_and_loses_nothing(host: LabHost, tmp_path: Path) -> None:
    """There and forth again, the hand-written part with it; each is a run of its own in the history."""
    hand = tmp_path / "tensorzero.toml"
    hand.write_text(HAND)
    quick = host.but(PMOVES_WATCH="0")
    before = config(host)

    with asked_all_the_time(host) as failures:
        changed = quick.but(PMOVES_TENSORZERO_TOML=str(hand)).json("provision")
        own = changed["route"]["config"]
        looked = quick.pmoves("rollback", "--dry-run")
        back = quick.json("rollback")

    assert [] == failures
    assert own.startswith(HAND)
    assert "~ gateway" in looked.stdout
    assert ("changed", before) == (back["outcome"], back["route"]["config"])
    assert back["profile_wanted"].startswith("rollback to ")
    assert before == config(host)
    assert 384 == len(host.embed("after it"))


def test_a_run_that_is_none_is_refused_and_nothing_is_changed(host: LabHost) -> None:
    """In one sentence, and without a line in the history."""
    before, runs = host.running(), len(host.json("history"))

    done = host.pmoves("rollback", "--to", "nope")

    assert 2 == done.returncode
    assert "pmoves: there is no run 'nope' on this host; nothing was changed;" in done.stderr
    assert (before, runs) == (host.running(), len(host.json("history")))


def test_routes_show_what_was_asked(host: LabHost) -> None:
    """As text, as JSON, and as metrics that Prometheus' own parser reads."""
    host.embed("count me")

    shown = host.json("routes")
    text = host.pmoves("routes")
    metrics = host.pmoves("routes", "--metrics")

    assert shown["serving"]
    assert next(one["requests"] for one in shown["others"] if one["name"] == MODEL) >= 1
    assert text.stdout.startswith(host.gateway)
    assert 0 == text.returncode == metrics.returncode
    counted = {
        sample.labels["function"]: sample.value
        for family in text_string_to_metric_families(metrics.stdout)
        for sample in family.samples
        if sample.name == "pmoves_gateway_requests_day" and sample.labels["status"] == "200"
    }
    assert counted[MODEL] >= 1


def test_a_proxy_that_is_gone_is_said_and_brought_back(host: LabHost) -> None:
    """`pmoves routes` names it, and the next run repairs it."""
    host.supervisor.stop("gateway-proxy")

    gone = host.pmoves("routes")
    repaired = host.json("provision")

    assert 0 == gone.returncode
    assert "does not run, so" in gone.stderr
    assert "changed" == repaired["outcome"]
    assert host.json("routes")["serving"]
    assert 384 == len(host.embed("again"))
