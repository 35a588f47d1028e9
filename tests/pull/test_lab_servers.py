"""The other servers on loopback: TLS that is right or wrong, a proxy, and the fast file server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.asking import BIG, FILES, NAME, RESOLVE, ask, curl, with_real_client
from tests.lab.fast_server import FastServer
from tests.lab.hub import HubLab, Repo
from tests.lab.proxy import ProxyLab
from tests.lab.tls import LOOPBACK, Authority
from tests.lab.weights import contents, fill

pytestmark = pytest.mark.real

UNTRUSTED = 60
TUNNEL_REFUSED = 56


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds a small repository."""
    with HubLab({NAME: Repo(FILES)}) as lab:
        yield lab


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Return a folder with the repository as the fast server serves it."""
    fill(tmp_path / "served" / NAME, FILES)
    return tmp_path / "served"


# --- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "days", "trusted", "code"),
    [
        (LOOPBACK, 30, True, 0),
        (LOOPBACK, 30, False, UNTRUSTED),
        (("other.test",), 30, True, UNTRUSTED),
        (LOOPBACK, -1, True, UNTRUSTED),
    ],
    ids=["good", "unknown authority", "wrong host name", "expired"],
)
def test_tls(tmp_path: Path, names: tuple[str, ...], days: int, code: int, *, trusted: bool) -> None:
    """A good certificate is taken by those who trust its authority, and a wrong one by nobody."""
    authority, stranger = Authority.make(tmp_path / "ours"), Authority.make(tmp_path / "other", "Other CA")
    bundle = (authority if trusted else stranger).bundle
    with HubLab({NAME: Repo(FILES)}, tls=authority.server(names, days=days)) as hub:
        done = curl("-L", "--cacert", str(bundle), f"{hub.endpoint}{RESOLVE}/big.bin")

    assert (done.returncode, done.stdout) == (code, BIG if code == 0 else b"")
    assert hub.requests.total() == (2 if code == 0 else 0)


# --- the proxy -------------------------------------------------------------------------------


def test_proxy_forwards(hub: HubLab) -> None:
    """Absolute addresses are fetched, redirects are the client's, and all is counted."""
    with ProxyLab() as proxy:
        done = curl("-L", "--noproxy", "", "-x", proxy.address, f"{hub.endpoint}{RESOLVE}/big.bin")

    assert done.stdout == BIG
    assert proxy.targets == {f"127.0.0.1:{hub.port}": 1, f"localhost:{hub.port}": 1}
    assert proxy.sent_bytes == len(BIG)


def test_proxy_tunnels(tmp_path: Path) -> None:
    """TLS goes through a tunnel."""
    authority = Authority.make(tmp_path)
    with HubLab({NAME: Repo(FILES)}, tls=authority.server()) as hub, ProxyLab(auth="me:pass") as proxy:
        address = f"{hub.endpoint}{RESOLVE}/config.json"
        way = ("--noproxy", "", "--cacert", str(authority.bundle), "-x")
        refused = curl(*way, proxy.address, address)
        done = curl(*way, proxy.address_with_auth, address)

    assert refused.returncode == TUNNEL_REFUSED
    assert done.stdout == FILES["config.json"]
    assert proxy.requests == {"CONNECT": 2, "refused": 1}


def test_proxy_wants_to_know_who_asks(hub: HubLab) -> None:
    """Without credentials the answer is 407, and nothing is asked of the hub."""
    with ProxyLab(auth="me:pass") as proxy:
        way = ("--noproxy", "", "-o", "/dev/null", "-w", "%{http_code}", "-x", proxy.address)
        done = curl(*way, f"{hub.endpoint}{RESOLVE}/config.json")

    assert done.stdout == b"407"
    assert hub.requests.total() == 0


def test_proxy_passes_breaks_on(hub: HubLab) -> None:
    """A body that breaks off behind the proxy breaks off before it."""
    hub.fail("cdn", "drop", times=1)
    with ProxyLab() as proxy:
        done = curl("-L", "--noproxy", "", "-x", proxy.address, f"{hub.endpoint}{RESOLVE}/big.bin")

    assert (done.returncode, done.stdout) == (18, BIG[: len(BIG) // 2])


# --- the fast server -------------------------------------------------------------------------


def test_fast_server(served: Path) -> None:
    """Files come whole and in ranges, over few connections, and are counted."""
    with FastServer(served) as server:
        address = f"{server.endpoint}/{NAME}/big.bin"
        whole, part = ask(address), ask(address, Range="bytes=100000-")
        small = ask(address, Range="bytes=5-9")
        other = ask(address, Range="bytes=5-9", If_Range='"other"')
        statuses = [ask(address, Range="bytes=300000-").status, ask(f"{server.endpoint}/../x").status]
        kept = curl(address, f"{server.endpoint}/{NAME}/config.json")
        told = server.stat()

    assert (whole.status, whole.body) == (200, BIG)
    assert (part.status, part.body, part.headers["content-range"]) == (
        206,
        BIG[100_000:],
        "bytes 100000-299999/300000",
    )
    assert (small.body, other.body, statuses) == (BIG[5:10], BIG, [416, 404])
    assert kept.stdout == BIG + FILES["config.json"]
    assert told["opened"] == 8
    assert told["sent_bytes"] == 3 * len(BIG) + 200_000 + 5 + len(FILES["config.json"])


def test_fast_server_as_a_hub(tmp_path: Path, served: Path) -> None:
    """The real client downloads from it, at a rate and with latency."""
    with FastServer(served, hub=True, bytes_per_s=1e8, link_bytes_per_s=1e8, latency_s=0.001) as server:
        told = with_real_client(server.endpoint, tmp_path / "cache")

    assert contents(Path(told["folder"])) == FILES
    assert told["bad"] == []
