"""Ranges or Xet: what was measured decides, and whichever brings a file, its digest is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tasks.errors import DigestMismatchError
from tasks.pull.download import pull
from tasks.pull.fetch.line import Line
from tasks.pull.sources import Hub, PullContext, xet
from tests.lab.hub import REVISION, HubLab, Repo
from tests.lab.hub_faults import Flip
from tests.lab.weights import BIG, FILES, REPO, Watcher, contents, pinned, planned

GIB = 1 << 30
SNAPSHOT = f"models--org--name/snapshots/{REVISION}"


@pytest.mark.parametrize(
    ("size_bytes", "held_bytes", "rates", "way"),
    [
        (10 << 20, 0, {"ranges": 1.0, "xet": 100.0}, "ranges"),
        (2 * GIB, 0, {}, "ranges"),
        (2 * GIB, 0, {"ranges": 50e6}, "xet"),
        (8 * GIB, 0, {"ranges": 50e6}, "ranges"),
        (2 * GIB, 0, {"ranges": 50e6, "xet": 60e6}, "ranges"),
        (2 * GIB, 0, {"ranges": 50e6, "xet": 70e6}, "xet"),
        (8 * GIB, 0, {"ranges": 50e6, "xet": 70e6}, "xet"),
        (2 * GIB, 1, {"ranges": 50e6, "xet": 70e6}, "ranges"),
    ],
    ids=[
        "small",
        "first",
        "trial",
        "too long a trial",
        "not clearly faster",
        "faster",
        "long",
        "begun in ranges",
    ],
)
def test_what_was_measured_decides(
    size_bytes: int, held_bytes: int, rates: Mapping[str, float], way: xet.Way
) -> None:
    """Ranges come first, Xet is tried once on a file that is not too long, then the clearly faster one."""
    assert way == xet.choose(size_bytes, held_bytes, rates)


def test_rates_are_kept(tmp_path: Path) -> None:
    """The last measurement of each way stays; a small fetch measures nothing."""
    xet.keep_rate(tmp_path, "ranges", GIB, 10.0)
    xet.keep_rate(tmp_path, "xet", GIB, 5.0)
    xet.keep_rate(tmp_path, "xet", 1000, 0.1)

    assert xet.read_rates(tmp_path) == {"ranges": GIB / 10, "xet": GIB / 5}


@pytest.mark.parametrize("text", ["", "[]", '{"ranges": "fast"}', "{"])
def test_damaged_rates_are_none(tmp_path: Path, text: str) -> None:
    """Rates that cannot be read are measured again."""
    xet.rates_file(tmp_path).parent.mkdir()
    xet.rates_file(tmp_path).write_text(text)

    assert xet.read_rates(tmp_path) == {}


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds the lab's repository; it has no Xet, so its client goes the plain way."""
    with HubLab({REPO: Repo(FILES)}) as lab:
        yield lab


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the lab's file count as large and as kept in Xet, and ranges as measured."""
    monkeypatch.setattr(xet, "LARGE_BYTES", 1_000_000)
    monkeypatch.setattr(xet, "possible", lambda _web, _url: True)
    xet.keep_rate(tmp_path, "ranges", GIB, 10.0)


@pytest.mark.real
@pytest.mark.usefixtures("tried")
def test_the_client_brings_a_file_and_is_measured(tmp_path: Path, hub: HubLab) -> None:
    """What the hub's client brings is hashed and installed, the rest comes in ranges, the rate is kept."""
    watcher = Watcher()

    pulled = pull(planned(pinned()), tmp_path, PullContext(endpoint=hub.endpoint, sink=watcher))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert pulled.source == "huggingface"
    assert "xet" in xet.read_rates(tmp_path)
    assert any("with Xet" in event.message for event in watcher.events)


@pytest.mark.real
@pytest.mark.usefixtures("tried")
def test_wrong_bytes_of_the_client_are_refused(tmp_path: Path, hub: HubLab) -> None:
    """The client checks sizes alone; a flipped bit is found here."""
    hub.fail("cdn", Flip(at=5))

    with pytest.raises(DigestMismatchError, match=r"model\.safetensors came with sha256"):
        pull(
            planned(pinned()),
            tmp_path,
            PullContext(endpoint=hub.endpoint),
            sources=(Hub("hub", hub.endpoint),),
        )

    assert not (tmp_path / SNAPSHOT / BIG).exists()


@pytest.mark.real
@pytest.mark.usefixtures("tried")
def test_ranges_take_over_where_the_client_fails(
    tmp_path: Path, hub: HubLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that cannot start is told, and the file comes in ranges."""
    monkeypatch.setattr(xet, "CHILD", Path("/nowhere/xet.py"))
    watcher = Watcher()

    pull(planned(pinned()), tmp_path, PullContext(endpoint=hub.endpoint, sink=watcher))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert any("Xet did not bring" in message and "taking ranges" in message for message in watcher.messages)


@pytest.mark.real
@pytest.mark.usefixtures("tried")
def test_a_limit_keeps_xet_out(tmp_path: Path, hub: HubLab) -> None:
    """Xet keeps to no limit of ours, so a limited line fetches in ranges."""
    ctx = PullContext(endpoint=hub.endpoint, line=Line(limit_bytes_per_s=50_000_000))

    pull(planned(pinned()), tmp_path, ctx)

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert "xet" not in xet.read_rates(tmp_path)


@pytest.mark.real
def test_a_hub_without_xet_is_seen(hub: HubLab) -> None:
    """Whether a file is in Xet is what the hub says of it."""
    from tasks.pull.fetch.web import Web, Wires  # noqa: PLC0415  # the one test that asks

    assert not xet.possible(Web(Wires()), f"{hub.endpoint}/{REPO}/resolve/{REVISION}/{BIG}")
