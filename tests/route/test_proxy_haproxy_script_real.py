"""haproxy.lua over a day, and where names go on and on; its clock is moved by a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_files import script
from tests.lab.haproxy import CHAT, FakeGateway, answer, client_of, model, proxied, who

pytestmark = pytest.mark.real
CLOCK = """
local real = os.time
os.time = function()
  local file = io.open("shift")
  local later = file and tonumber(file:read("a")) or 0
  if file then file:close() end
  return real() + later
end
"""
HOUR_S = 3600


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HaProxy]:
    """Return a proxy whose clock can be moved, and which keeps few names apart."""
    text = script().replace("MOST_KEYS = 10000", "MOST_KEYS = 5")
    assert text != script()
    monkeypatch.setattr("tasks.route.proxy.haproxy.script", lambda: CLOCK + text)
    with proxied(tmp_path / "state") as made:
        yield made


def test_a_day(proxy: HaProxy) -> None:
    """Counts are kept by the hour for 25 of them; what Prometheus reads only grows."""
    seen = []
    with FakeGateway("blue") as blue, client_of(proxy) as client:
        proxy.point(blue.target)
        for hour in (0, 1, 25, 27, 60):
            (proxy.folder / "shift").write_text(str(hour * HOUR_S))
            assert who(client) == "blue"
            seen.append([one.requests for one in proxy.counts()])
        hours = [one.hour for one in proxy.counts()]
        metrics = client.get("/metrics").text

    assert seen == [[1], [1, 1], [1, 1, 1], [1, 1], [1]]
    assert hours[0] > "2026"
    assert 'function="f",variant="blue",status="200"} 5' in metrics


def test_names_that_go_on_and_on(proxy: HaProxy) -> None:
    """Names beyond the most that are kept apart are counted together, and no request is left out."""
    with FakeGateway("blue") as blue, client_of(proxy) as client:
        proxy.point(blue.target)
        for number in range(20):
            client.post(CHAT, json={"say": answer(model(f"f{number}", "v"))})
        found = {(one.function, one.requests) for one in proxy.counts()}

    assert found == {*((f"f{number}", 1) for number in range(5)), ("", 15)}
