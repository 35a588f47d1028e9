"""The download engine against a good hub: kills, disks, certificates, proxies, and who may take how much."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from tasks.contracts import WeightFile, Weights
from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    SourceRefusedError,
    SourceUnavailableError,
    StateFolderError,
)
from tasks.pull.download import pull
from tasks.pull.fetch import crew
from tasks.pull.fetch.blocks import BLOCK_BYTES
from tasks.pull.fetch.line import Line, QuietHours
from tasks.pull.fetch.web import Wires
from tasks.pull.sources import Hub, Job, PullContext
from tests.lab.fetching import (
    BIG,
    BIG_BYTES,
    FILES,
    SIZE_BYTES,
    SNAPSHOT,
    WIRES,
    Beside,
    Store,
    fetched,
    open_below,
    threads,
    wanted_of,
)
from tests.lab.hub import HubLab, Repo, git_sha1
from tests.lab.hub_faults import Drop, Silent
from tests.lab.hub_process import HubProcess
from tests.lab.proxy import ProxyLab
from tests.lab.pull_once import ROOT, Order, start
from tests.lab.tls import Authority
from tests.lab.weights import REPO, contents, pinned, planned, wait_for

pytestmark = pytest.mark.real

LARGE = {BIG: FILES[BIG] * 3, "config.json": FILES["config.json"]}
LARGE_BYTES = sum(map(len, LARGE.values()))


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between tries."""
    monkeypatch.setattr(crew, "BACKOFF_S", 0.1)


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds the lab's repository."""
    with HubLab({REPO: Repo(FILES)}, buffer_bytes=65536) as lab:
        yield lab


@pytest.fixture
def store(tmp_path: Path, hub: HubLab) -> Store:
    """Return a store that is filled from the hub."""
    return Store(tmp_path / "store", hub.endpoint)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[HubProcess]:
    """Return a hub in a process of its own that holds a larger file."""
    root = tmp_path / "served"
    for name, data in LARGE.items():
        (root / REPO / name).parent.mkdir(parents=True, exist_ok=True)
        (root / REPO / name).write_bytes(data)
    with HubProcess(root, buffer_bytes=65536, link_bytes_per_s=20e6) as hub:
        yield hub


# --- kills -----------------------------------------------------------------------------------


def test_kill_9_of_the_pull(tmp_path: Path, served: HubProcess) -> None:
    """After kill -9 in the middle, the next pull fetches nothing twice but what was under way."""
    store = Store(tmp_path / "store", served.endpoint, LARGE)
    with start(Order(str(store.path), pinned(LARGE), served.endpoint)) as victim:
        wait_for(lambda: served.stat()["sent_bytes"] > LARGE_BYTES * 2 // 3, what="most of it")
        victim.kill()
    assert store.visible.items() <= LARGE.items()
    assert store.parts.count(".part") == 1

    store.pull()

    stat = served.stat()
    store.is_whole()
    under_way = (stat["peak"]["localhost"] + 1) * 2 * BLOCK_BYTES
    assert stat["sent_bytes"] - LARGE_BYTES <= LARGE_BYTES // 100 + under_way


def test_kill_9_again_and_again(tmp_path: Path, served: HubProcess) -> None:
    """Several kills in a row, wherever they hit, cost a few blocks each and nothing else."""
    store = Store(tmp_path / "store", served.endpoint, LARGE)
    for share in (1, 2, 3):
        with start(Order(str(store.path), pinned(LARGE), served.endpoint)) as victim:
            wait_for(lambda share=share: served.stat()["sent_bytes"] > share * 4_000_000, what="some of it")
            victim.kill()
        assert BIG not in store.visible

    store.pull()

    stat = served.stat()
    store.is_whole()
    assert stat["sent_bytes"] - LARGE_BYTES <= 3 * (stat["peak"]["localhost"] + 1) * 2 * BLOCK_BYTES


def test_kill_9_of_the_server(tmp_path: Path, served: HubProcess) -> None:
    """When the server dies and comes back on its port, the same pull goes on."""
    store = Store(tmp_path / "store", served.endpoint, LARGE)
    beside = Beside(store, {"tries": 12})
    wait_for(lambda: served.stat()["sent_bytes"] > 8_000_000, what="the middle")
    before = served.stat()

    served.kill()
    served.start()
    pulled = beside.end()

    store.is_whole()
    sent = before["sent_bytes"] + served.stat()["sent_bytes"]
    assert sent - LARGE_BYTES <= 16 * 4 * BLOCK_BYTES + 4_000_000  # what it sent between stat and kill
    assert pulled.change.kind == "create"


# --- several at once -------------------------------------------------------------------------


def test_files_with_the_same_bytes(tmp_path: Path, hub: HubLab) -> None:
    """Two files with the same bytes, large or small, are both handed on."""
    same = {"a.bin": FILES[BIG], "b.bin": FILES[BIG], "c.json": b"{}", "d/c.json": b"{}", "e": b"", "f": b""}
    hub.repos[REPO] = Repo(same)
    store = Store(tmp_path / "store", hub.endpoint, same)

    store.pull()

    store.is_whole()


def test_files_that_are_pinned_by_git(tmp_path: Path, hub: HubLab) -> None:
    """A file of any size may be pinned by the name of its git blob."""
    files = tuple(WeightFile(name, len(data), "", git_sha1(data)) for name, data in FILES.items())
    store = Store(tmp_path / "store", hub.endpoint)

    store.pull(weights=msgspec.structs.replace(pinned(FILES), files=files))

    store.is_whole()


def test_many_small_files(tmp_path: Path, hub: HubLab) -> None:
    """Hundreds of small files are fetched over a few connections, each file once."""
    files = {f"shard-{number}.txt": b"%d" % number * 50 for number in range(300)}
    hub.repos[REPO] = Repo(files)
    store = Store(tmp_path / "store", hub.endpoint, files)

    store.pull()

    store.is_whole()
    assert hub.requests == {"get": 300}
    assert hub.opened["127.0.0.1"] <= 16


@pytest.mark.parametrize("connections", [1, 3])
def test_two_pulls_keep_to_the_limit_of_connections(tmp_path: Path, hub: HubLab, connections: int) -> None:
    """Two pulls that share a line never have more connections to a host than it allows."""
    hub.link_bytes_per_s = 30e6
    line = Line(connections=connections)

    pulls = [Beside(Store(tmp_path / name, hub.endpoint), {"line": line}) for name in ("one", "two")]
    for one in pulls:
        one.end()

    assert hub.peak["127.0.0.1"] <= connections
    assert hub.peak["localhost"] <= connections
    assert hub.sent_bytes == 2 * SIZE_BYTES


def test_small_pull_is_not_starved(tmp_path: Path, hub: HubLab) -> None:
    """A large pull that has all connections gives one to a small pull that has none."""
    hub.repos["org/small"] = Repo({"config.json": b"{}"})
    hub.link_bytes_per_s = 2e6
    line = Line(connections=2)
    large = Beside(Store(tmp_path / "large", hub.endpoint), {"line": line})
    wait_for(lambda: hub.now["localhost"] == 2, what="two connections of the large pull")

    small = Store(tmp_path / "small", hub.endpoint, {"config.json": b"{}"})
    small.pull(line=line, weights=replace_repo(small))

    assert large.pulled is None
    large.is_stopped()


def replace_repo(store: Store) -> Weights:
    """Return the weights of the small repository."""
    weights = pinned(store.files)
    return msgspec.structs.replace(weights, repo="org/small")


def test_limit_holds_over_all_pulls(tmp_path: Path, hub: HubLab) -> None:
    """Two pulls together take no more bandwidth than their line has."""
    line = Line(limit_bytes_per_s=12_000_000)
    started = time.monotonic()

    pulls = [Beside(Store(tmp_path / name, hub.endpoint), {"line": line}) for name in ("one", "two")]
    for one in pulls:
        one.end()

    assert time.monotonic() - started >= 0.9 * (2 * SIZE_BYTES / 12e6 - 0.2)


def test_quiet_hours_pause_and_end(tmp_path: Path, hub: HubLab) -> None:
    """In hours with a limit of 0 next to nothing comes; when they end, the pull goes on by itself."""
    clock = [30]
    line = Line(quiet=(QuietHours(0, 60, 0),), minute=lambda: clock[0])
    beside = Beside(Store(tmp_path / "store", hub.endpoint), {"line": line, "quiet_s": 0.5})
    wait_for(lambda: hub.sent["get"] or hub.sent["cdn"], what="the first bytes")
    time.sleep(1.2)  # longer than a stall may last

    assert beside.pulled is beside.error is None
    assert hub.sent_bytes < BIG_BYTES
    clock[0] = 60
    beside.end()
    beside.store.is_whole()


def test_stop_in_quiet_hours(tmp_path: Path, hub: HubLab) -> None:
    """A pull that pauses can be stopped at once."""
    line = Line(quiet=(QuietHours(0, 60, 0),), minute=lambda: 30)
    beside = Beside(Store(tmp_path / "store", hub.endpoint), {"line": line})
    wait_for(hub.requests.total, what="a request")

    assert beside.is_stopped() < 3
    beside.store.check()


def test_two_processes_fetch_once(tmp_path: Path, served: HubProcess) -> None:
    """Two provisioners on one store fetch the bytes once."""
    store = Store(tmp_path / "store", served.endpoint, LARGE)
    order = Order(str(store.path), pinned(LARGE), served.endpoint)

    with start(order) as one, start(order) as two:
        codes = [one.wait(120), two.wait(120)]

    assert codes == [0, 0]
    assert served.stat()["sent_bytes"] == LARGE_BYTES
    store.is_whole()


def test_pulls_leave_nothing_open(store: Store, hub: HubLab) -> None:
    """After good and bad pulls the process has the files and threads that it had before."""
    store.pull()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(6):
        hub.fail("cdn", Drop(at=100))
        shutil.rmtree(store.path)
        store.fails(tries=2)
        hub.faults.clear()
        store.pull()
        store.is_whole()
        assert number < 6

    wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 1, what="the end of all files")
    assert threads() == []


# --- certificates ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that only these tests know."""
    return Authority.make(tmp_path_factory.mktemp("authority"))


def test_https(tmp_path: Path, authority: Authority) -> None:
    """With the right authority a pull over TLS works, and a stop in the middle leaves no garbage."""
    with HubLab({REPO: Repo(FILES)}, tls=authority.server(), link_bytes_per_s=20e6) as hub:
        store = Store(tmp_path / "store", hub.endpoint)
        wires = replace(WIRES, ca_file=str(authority.bundle))
        beside = Beside(store, {"wires": wires})
        wait_for(lambda: hub.sent_bytes > 3_000_000, what="the middle")

        beside.is_stopped()
        store.pull(wires=wires)

        store.is_whole()
        assert hub.sent_bytes <= SIZE_BYTES + 16 * 2 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("names", "days", "known", "text"),
    [
        (("localhost", "127.0.0.1"), 30, False, "unable to get local issuer certificate"),
        (("other.test",), 30, True, "certificate is not valid for"),
        (("localhost", "127.0.0.1"), -1, True, "certificate has expired"),
    ],
    ids=["unknown", "other host", "expired"],
)
def test_https_that_is_not_trusted(
    tmp_path: Path, authority: Authority, names: tuple[str, ...], days: int, text: str, *, known: bool
) -> None:
    """A certificate that is not good is refused at once, and the sentence says why."""
    with HubLab({REPO: Repo(FILES)}, tls=authority.server(names, days=days)) as hub:
        store = Store(tmp_path / "store", hub.endpoint)
        other = Authority.make(tmp_path / "other").bundle

        failed = store.fails(wires=Wires(ca_file=str(authority.bundle if known else other)))

        assert type(failed) is SourceRefusedError
        assert "cannot be trusted" in failed.what
        assert text in failed.what
        assert "SSL_CERT_FILE" in failed.then
        assert hub.requests.total() == 0


@pytest.mark.parametrize("kind", ["absent", "garbage"])
def test_certificates_that_cannot_be_read(store: Store, tmp_path: Path, hub: HubLab, kind: str) -> None:
    """A file of certificates that is not there, or none, is refused in a sentence."""
    bundle = tmp_path / "ca.pem"
    if kind == "garbage":
        bundle.write_text("nothing")

    failed = store.fails(wires=Wires(ca_file=str(bundle)))

    assert type(failed) is SourceRefusedError
    assert f"the certificates in {bundle} cannot be read" in failed.what
    assert hub.requests.total() == 0


def test_https_to_http_is_refused(tmp_path: Path, authority: Authority, hub: HubLab) -> None:
    """A redirect from TLS to plain HTTP is not followed."""
    from tests.lab.hub_faults import RedirectTo  # noqa: PLC0415  # only here

    with HubLab({REPO: Repo(FILES)}, tls=authority.server()) as safe:
        safe.fail("get", RedirectTo(hub.endpoint))
        store = Store(tmp_path / "safe", safe.endpoint)

        failed = store.fails(wires=Wires(ca_file=str(authority.bundle)))

    assert type(failed) is SourceRefusedError
    assert f"redirects from https to plain http at 127.0.0.1:{hub.port}" in failed.what
    assert hub.requests.total() == 0


def test_http_where_https_is_meant(store: Store, hub: HubLab) -> None:
    """A server that speaks no TLS is a server that does not answer."""
    store.endpoint = hub.endpoint.replace("http:", "https:")

    assert type(store.fails(tries=2)) is SourceUnavailableError


# --- proxies ---------------------------------------------------------------------------------


def through(proxy: ProxyLab, *more: tuple[str, str], ca_file: Path | None = None) -> Wires:
    """Return wires through a proxy, with its login."""
    address = proxy.address_with_auth if proxy.auth else proxy.address
    variables = (("http_proxy", address), ("HTTPS_PROXY", address), *more)
    return replace(WIRES, proxies=variables, ca_file=str(ca_file) if ca_file else None)


@pytest.mark.parametrize("auth", ["", "user:pass", "user:p%40ss"])
def test_proxy(store: Store, hub: HubLab, auth: str) -> None:
    """Plain HTTP goes through the proxy, with its login where it has one."""
    with ProxyLab(auth=auth.replace("%40", "@")) as proxy:
        wires = through(proxy)
        if auth:
            address = f"http://{auth}@127.0.0.1:{proxy.port}"
            wires = replace(wires, proxies=(("http_proxy", address),))

        store.pull(wires=wires)

        store.is_whole()
        assert set(proxy.targets) == {f"127.0.0.1:{hub.port}", f"localhost:{hub.port}"}
        assert proxy.sent_bytes >= SIZE_BYTES
        assert proxy.requests["refused"] == 0
        assert "pass" not in repr(wires)


@pytest.mark.parametrize("auth", ["", "user:pass"])
def test_proxy_with_https(tmp_path: Path, authority: Authority, auth: str) -> None:
    """TLS goes through a tunnel of the proxy."""
    with HubLab({REPO: Repo(FILES)}, tls=authority.server()) as hub, ProxyLab(auth=auth) as proxy:
        store = Store(tmp_path / "store", hub.endpoint)

        store.pull(wires=through(proxy, ca_file=authority.bundle))

        store.is_whole()
        assert set(proxy.requests) == {"CONNECT"}
        assert proxy.sent_bytes >= SIZE_BYTES


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("auth", "status", "text"), [("user:pass", 0, "407 Proxy"), ("", 403, "403 Forbidden")]
)
def test_proxy_refuses(
    tmp_path: Path, authority: Authority, auth: str, status: int, text: str, *, secure: bool
) -> None:
    """A proxy that refuses is said, and not asked over and over."""
    tls = authority.server() if secure else None
    with HubLab({REPO: Repo(FILES)}, tls=tls) as hub, ProxyLab(auth=auth, status=status) as proxy:
        wires = replace(through(proxy, ca_file=authority.bundle), proxies=(("all_proxy", proxy.address),))

        failed = Store(tmp_path / "store", hub.endpoint).fails(wires=wires)

        assert type(failed) is SourceRefusedError
        assert text in failed.what
        assert "pass" not in failed.what
        assert hub.requests.total() == 0
        assert proxy.requests.total() <= 2


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy(store: Store, name: str) -> None:
    """What NO_PROXY names is asked without the proxy."""
    with ProxyLab() as proxy:
        store.pull(wires=through(proxy, (name, "127.0.0.1,localhost")))

        assert proxy.requests.total() == 0
    store.is_whole()


def test_proxy_that_is_down(store: Store, hub: HubLab) -> None:
    """A proxy that does not answer is a source that does not answer."""
    with ProxyLab() as gone:
        wires = through(gone)

    assert type(store.fails(wires=wires, tries=2)) is SourceUnavailableError
    assert hub.requests.total() == 0


def test_proxy_of_an_unknown_kind(store: Store) -> None:
    """A proxy that is no HTTP proxy is refused in a sentence."""
    failed = store.fails(wires=replace(WIRES, proxies=(("all_proxy", "socks5://127.0.0.1:9"),)))

    assert type(failed) is SourceRefusedError
    assert "the proxy socks5://127.0.0.1 is of a kind that is not supported" in failed.what


# --- disks -----------------------------------------------------------------------------------


@dataclass
class Disk:
    """A small file system of its own."""

    path: Path

    def resize(self, size: str) -> None:
        """Make it larger, smaller, or read-only."""
        subprocess.run(["mount", "-o", f"remount,{size}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Return what mounts a disk; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size: str) -> Disk:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root can mount a small disk")
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("no tmpfs can be mounted here")
        return Disk(folder)

    yield make
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@dataclass
class Optimist:
    """A hub that says that it needs no room, so that the disk fills while it works."""

    hub: Hub

    @property
    def NAME(self) -> str:  # noqa: N802  # as the protocol of sources has it
        """Its name."""
        return self.hub.NAME

    def room_bytes(self, _weights: Weights, _files: tuple[WeightFile, ...]) -> int:
        """Need nothing."""
        return 0

    def fetch(self, job: Job) -> int:
        """Fetch as the real source does."""
        return self.hub.fetch(job)


# The part's first page, the journal's head, its states, the middle, the last blocks, the small files.
@pytest.mark.parametrize("size", ["4k", "8k", "12k", "16k", "24k", "1m", "5m", "8960k", "8976k", "8984k"])
def test_disk_is_full_at_any_byte(disk: Callable[[str], Disk], hub: HubLab, size: str) -> None:
    """A disk that fills anywhere is one sentence; with room again the pull goes on with what it has."""
    small = disk(size)
    source = Optimist(Hub("hub", hub.endpoint))
    context = PullContext(endpoint=hub.endpoint, wires=WIRES)

    with pytest.raises((NoRoomError, StateFolderError)) as caught:
        pull(planned(pinned(FILES)), small.path / "s", context, sources=(source,))

    assert type(caught.value) is NoRoomError
    assert "\n" not in str(caught.value)
    assert open_below(small.path) == []
    assert contents(small.path / "s" / SNAPSHOT).items() <= FILES.items()
    small.resize("size=40m")
    first, hub.sent_bytes = hub.sent_bytes, 0
    pull(planned(pinned(FILES)), small.path / "s", context, sources=(source,))
    assert contents(small.path / "s" / SNAPSHOT) == FILES
    if first > 4_000_000:
        assert hub.sent_bytes < SIZE_BYTES - 1_000_000


def test_disk_becomes_read_only(disk: Callable[[str], Disk], hub: HubLab) -> None:
    """A store that is read-only is one sentence, and nothing is asked for."""
    small = disk("40m")
    small.resize("ro")
    store = Store(small.path / "s", hub.endpoint)

    with pytest.raises(StateFolderError, match="cannot be used: Read-only file system"):
        store.pull()

    assert hub.requests.total() == 0


def test_another_program_cuts_the_part(tmp_path: Path, hub: HubLab) -> None:
    """A part that somebody cuts short while it is fetched ends the pull; it does not hang."""
    hub.link_bytes_per_s = 6e6
    store = Store(tmp_path / "store", hub.endpoint)
    beside = Beside(store, {})
    wait_for(lambda: hub.sent_bytes > 1_500_000, what="some bytes")

    for part in store.path.rglob("*.part"):
        os.truncate(part, 0)

    beside.thread.join(60)
    # Either the end is missed, or it was written anew behind a hole.
    assert isinstance(beside.error, StateFolderError | DigestMismatchError)
    hub.link_bytes_per_s = None
    store.pull()
    store.is_whole()


def test_no_permission(tmp_path: Path, hub: HubLab) -> None:
    """A store that this user may not write is one sentence."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # A child that gives up its rights before it pulls; it has imported all that it needs by then.
    code = (
        "import os, sys, msgspec; from pathlib import Path;"
        "from tests.lab.pull_once import Order, pull, planned;"
        "from tasks.pull.sources import PullContext; from tasks.errors import StateFolderError;"
        "order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order);"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: pull(planned(order.weights), Path(order.cache), PullContext(endpoint=order.endpoint))\n"
        "except StateFolderError as error: print(error)"
    )
    store = tmp_path / "closed"
    store.mkdir()
    store.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    order = msgspec.json.encode(Order(str(store), pinned(FILES), hub.endpoint))

    done = subprocess.run(
        [sys.executable, "-c", code], input=order, cwd=ROOT, capture_output=True, check=True, timeout=60
    )

    assert f"the weight store {store} cannot be used: Permission denied" in done.stdout.decode()
    assert hub.requests.total() == 0


# --- the engine alone ------------------------------------------------------------------------


def test_silent_source_is_left_quickly(tmp_path: Path, hub: HubLab) -> None:
    """When the engine gives up, its threads end soon, although the server still says nothing."""
    hub.fail("get", Silent())
    wanted = wanted_of({BIG: FILES[BIG]}, hub.endpoint, tmp_path)

    with pytest.raises(SourceUnavailableError, match="gave nothing for"):
        fetched(wanted, quiet_s=0.5)

    wait_for(lambda: not threads(), what="the end of all threads", deadline_s=3)


def test_nothing_wanted() -> None:
    """Nothing is fetched where nothing is wanted."""
    assert fetched([]) == (0, {})


@pytest.mark.parametrize(
    "change",
    [{"digest": "sha256:../../../../x"}, {"digest": "git:" + "0" * 64}, {"digest": ""}, {"size_bytes": -1}],
    ids=str,
)
def test_pin_that_is_none(tmp_path: Path, hub: HubLab, change: dict[str, str | int]) -> None:
    """A digest names a file of the store, so what is no digest is refused before anything is asked."""
    wanted = wanted_of({BIG: FILES[BIG]}, hub.endpoint, tmp_path)

    with pytest.raises(SourceRefusedError, match=r"pinned for 'model\.safetensors' is none"):
        fetched([replace(wanted[0], **change)])  # type: ignore[arg-type]  # one of the two

    assert hub.requests.total() == 0


def test_part_that_is_whole_already(tmp_path: Path, hub: HubLab) -> None:
    """A part with all its bytes is verified and handed on, and no request is made."""
    from tasks.pull.fetch.partial import Partial  # noqa: PLC0415  # only here

    wanted = wanted_of({BIG: FILES[BIG]}, hub.endpoint, tmp_path)
    with Partial(wanted[0].part, size_bytes=BIG_BYTES, digest=wanted[0].digest) as part:
        part.write(memoryview(FILES[BIG]), 0)
        part.mark((0, len(part.states)))

    assert fetched(wanted) == (0, {BIG: FILES[BIG]})
    assert hub.requests.total() == 0
