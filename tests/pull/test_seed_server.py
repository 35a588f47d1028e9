"""A seed on a real port: the Hub's own client, our pull, many clients, and clients that go away."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.contracts import WeightFile, Weights
from tasks.errors import PortTakenError, SourceRefusedError, UsageError
from tasks.pull import store
from tasks.pull.download import pull
from tasks.pull.resolve.listing import listing
from tasks.pull.seed.process import listen
from tasks.pull.sources import Hub, PullContext
from tests.lab.asking import ask
from tests.lab.environment import clean_environment
from tests.lab.hub import REVISION
from tests.lab.ollama_registry import digest_of, lab_tag
from tests.lab.seeding import BEARER, TOKEN, SeedLab, in_ollama, open_files_stay, stocked
from tests.lab.weights import BIG, FILES, REPO, SIZE_BYTES, contents, pinned, planned, wait_for

pytestmark = pytest.mark.real

RESOLVE = f"/{REPO}/resolve/{REVISION}"
SPARSE_BYTES = 200_000_000
ROOT = Path(__file__).parents[2]
CLIENT = """
import json, sys
from huggingface_hub import HfApi, snapshot_download
repo, revision, cache = sys.argv[1:]
try:
    folder = snapshot_download(repo, revision=revision, cache_dir=cache)
    api = HfApi()
    checked = api.verify_repo_checksums(repo, revision=revision, cache_dir=cache)
    told = api.model_info(repo, revision=revision, files_metadata=True)
    print(json.dumps({
        "folder": folder,
        "mismatches": checked.mismatches,
        "missing": checked.missing_paths,
        "sha": told.sha,
        "sizes": {one.rfilename: one.size for one in told.siblings},
        "listed": [one.path for one in api.list_repo_tree(repo, revision=revision, recursive=True)],
    }))
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


@pytest.fixture
def seed(tmp_path: Path) -> Iterator[SeedLab]:
    """Return a seed over a store with the lab's files."""
    stocked(tmp_path / "store")
    with SeedLab(tmp_path / "store") as lab:
        yield lab


def environment(seed: SeedLab, token: str) -> dict[str, str]:
    """Return what the Hub's client is told."""
    return clean_environment(
        HF_ENDPOINT=seed.endpoint,
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_UPDATE_CHECK="1",
        **({"HF_TOKEN": token} if token else {}),
    )


def real_client(
    seed: SeedLab, cache: Path, *, revision: str = REVISION, token: str = TOKEN
) -> dict[str, Any]:
    """Download and list the repository with the real client."""
    command = [sys.executable, "-c", CLIENT, REPO, revision, str(cache)]
    done = subprocess.run(
        command, env=environment(seed, token), check=True, capture_output=True, text=True, timeout=120
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("revision", [REVISION, "main"])
def test_real_client(tmp_path: Path, seed: SeedLab, revision: str) -> None:
    """The Hub's own client downloads, verifies and lists a repository."""
    told = real_client(seed, tmp_path / "cache", revision=revision)

    assert contents(Path(told["folder"])) == FILES
    assert (told["mismatches"], told["missing"], told["sha"]) == ([], [], REVISION)
    assert told["sizes"] == {name: len(data) for name, data in FILES.items()}
    assert set(told["listed"]) == {"1_Pooling", *FILES}
    assert Path(told["folder"]).joinpath(BIG).readlink().name == digest_of(FILES[BIG])


def test_real_command(tmp_path: Path, seed: SeedLab) -> None:
    """`hf download` works against a seed."""
    command = [str(Path(sys.executable).with_name("hf")), "download", REPO, "--revision", REVISION]
    done = subprocess.run(
        [*command, "--local-dir", str(tmp_path / "here")],
        env=environment(seed, TOKEN),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    got = contents(tmp_path / "here")
    assert {name: got.get(name) for name in FILES} == FILES


@pytest.mark.parametrize("token", ["", "wrong"])
def test_real_client_without_the_token(tmp_path: Path, seed: SeedLab, token: str) -> None:
    """Without the token, the Hub's client ends with an error of authorisation, and nothing is written."""
    told = real_client(seed, tmp_path / "cache", token=token)

    assert told["error"] == "HfHubHTTPError"
    assert "401" in told["text"]
    assert contents(tmp_path / "cache") == {}
    assert {one.status for one in seed.answered} == {401}


@pytest.mark.parametrize(
    ("repo", "revision", "error"),
    [("org/none", REVISION, "RepositoryNotFoundError"), (REPO, "b" * 40, "RevisionNotFoundError")],
)
def test_real_client_and_what_is_not_here(
    tmp_path: Path, seed: SeedLab, repo: str, revision: str, error: str
) -> None:
    """The Hub's client says what is not here as it does of the Hub."""
    script = "import sys; from huggingface_hub import HfApi\n"
    script += "try: HfApi().model_info(sys.argv[1], revision=sys.argv[2])\n"
    script += "except Exception as error: print(type(error).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script, repo, revision],
        env=environment(seed, TOKEN),
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.stdout.strip() == error


def test_our_pull(tmp_path: Path, seed: SeedLab) -> None:
    """A store that is filled from a neighbour equals the neighbour's."""
    source = Hub("neighbour", seed.endpoint, TOKEN)

    pulled = pull(planned(pinned()), tmp_path / "mine", PullContext(), sources=(source,))

    snapshot = f"models--org--name/snapshots/{REVISION}"
    assert contents(tmp_path / "mine" / snapshot) == FILES
    assert pulled.fetched_bytes == SIZE_BYTES
    assert sum(one.sent_bytes for one in seed.answered) == SIZE_BYTES


def test_our_listing(seed: SeedLab) -> None:
    """What resolves pins at the Hub resolves them at a neighbour."""
    found = listing(REPO, None, PullContext(endpoint=seed.endpoint, token=TOKEN))

    assert (found.revision, {file.path for file in found.files}) == (REVISION, set(FILES))
    assert {file.path: file.sha256 for file in found.files}[BIG] == digest_of(FILES[BIG])


@pytest.mark.parametrize(
    ("token", "text"),
    [("wrong", "the hub answered 401 Unauthorized"), (TOKEN, "org/name has no model.safetensors")],
)
def test_our_pull_of_what_is_not_given(tmp_path: Path, seed: SeedLab, token: str, text: str) -> None:
    """Our pull ends with a sentence when a neighbour does not give a file."""
    store.link_path(seed.cache, pinned(), pinned().files[2]).resolve().write_bytes(b"damaged")

    with pytest.raises(SourceRefusedError, match=text):
        pull(
            planned(pinned()),
            tmp_path / "mine",
            PullContext(),
            sources=(Hub("neighbour", seed.endpoint, token),),
        )


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[SeedLab]:
    """Return a seed with a file of 200 MB that takes no room."""
    data = tmp_path / "sparse"
    with data.open("wb") as file:
        file.truncate(SPARSE_BYTES)
    with data.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    weights = Weights(
        repo=REPO,
        revision=REVISION,
        files=(WeightFile(path="sparse.bin", size_bytes=SPARSE_BYTES, sha256=sha256),),
    )
    cache = tmp_path / "store"
    store.repo_folder(cache, REPO).mkdir(parents=True)
    link = store.install(cache, weights, weights.files[0], data)
    known = store.receipts(cache, REPO)
    known.add(link, f"sha256:{sha256}", placed=True)
    known.save()
    with SeedLab(cache) as lab:
        yield lab


def test_many_clients(sparse: SeedLab) -> None:
    """Eight clients get a large file at once, each whole, and no file stays open."""
    with open_files_stay(), ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _number: taken(sparse.endpoint), range(8)))

    assert got == [SPARSE_BYTES] * 8


def test_memory_stays_flat(sparse: SeedLab) -> None:
    """A server that has sent 1.6 GB to eight clients at once holds some pieces of each, and no more."""
    with process_of(sparse.cache) as (process, endpoint, _):
        before = most_bytes(process)
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda _number: taken(endpoint), range(8)))

        assert got == [SPARSE_BYTES] * 8
        assert most_bytes(process) - before < 80 << 20


def taken(endpoint: str) -> int:
    """Take the large file, and return how many bytes came."""
    address, headers = f"{endpoint}{RESOLVE}/sparse.bin", {"Authorization": BEARER}
    with httpx.stream("GET", address, headers=headers, timeout=60) as answer:
        return sum(len(piece) for piece in answer.iter_raw(1 << 20))


def most_bytes(process: subprocess.Popen[str]) -> int:
    """Return the most memory that a process has held so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_slow_client_keeps_nobody_waiting(sparse: SeedLab) -> None:
    """A client that takes nothing holds one piece and no thread; others are answered at once."""
    slow = [begun(sparse) for _ in range(24)]
    try:
        started = time.monotonic()
        answer = ask(f"{sparse.endpoint}{RESOLVE}/sparse.bin", Authorization=BEARER, Range="bytes=0-9")

        assert answer.body == bytes(10)
        assert time.monotonic() - started < 5
    finally:
        for connection in slow:
            connection.close()


def begun(seed: SeedLab) -> socket.socket:
    """Ask for a large file and take nothing of it."""
    address = seed.endpoint.rpartition("//")[2].split(":")
    connection = socket.create_connection((address[0], int(address[1])), timeout=10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    head = f"GET {RESOLVE}/sparse.bin HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_client_that_goes_away(sparse: SeedLab) -> None:
    """A client that goes away ends its stream, and the log says so."""
    with open_files_stay():
        connection = begun(sparse)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()
        wait_for(lambda: sparse.answered, what="the end of the stream", deadline_s=10)

    assert sparse.answered[0].note == "the client went away"
    assert sparse.answered[0].sent_bytes < 20_000_000


def test_head_of_an_answer(seed: SeedLab) -> None:
    """An answer on the wire names no server, and a connection is kept for the next."""
    with httpx.Client(base_url=seed.endpoint, headers={"Authorization": BEARER}) as client:
        first = client.get(f"{RESOLVE}/config.json")
        head = client.head(f"{RESOLVE}/{BIG}")
        refused = client.post(f"{RESOLVE}/{BIG}", content=b"x" * 100_000)
        last = client.get(f"{RESOLVE}/{BIG}")

    assert "server" not in first.headers
    assert (head.headers["content-length"], head.content) == ("3000000", b"")
    assert refused.status_code == 405
    assert last.content == FILES[BIG]


def test_raw_paths_on_the_wire(seed: SeedLab) -> None:
    """No client library cleans these paths before they are sent."""
    (seed.cache.parent / "secret").write_bytes(b"not for neighbours")
    for path in (
        "/../../../../secret",
        f"{RESOLVE}/../../../../../secret",
        f"{RESOLVE}/..%2f..%2f..%2f..%2fsecret",
    ):
        answer = ask(f"{seed.endpoint}{path}", Authorization=BEARER)

        assert (answer.status, b"not for" in answer.body) == (404, False)


def test_blobs_of_ollama(tmp_path: Path) -> None:
    """A client that checks digests can fetch a model of Ollama's."""
    tag = lab_tag()
    in_ollama(tmp_path / "ollama", tag)
    with SeedLab(tmp_path / "store", tmp_path / "ollama") as seed:
        manifest = ask(f"{seed.endpoint}/v2/library/lab/manifests/1", Authorization=BEARER).body
        layers = json.loads(manifest)["layers"]
        blobs = [
            ask(f"{seed.endpoint}/v2/library/lab/blobs/{layer['digest']}", Authorization=BEARER).body
            for layer in layers
        ]

    assert [f"sha256:{digest_of(blob)}" for blob in blobs] == [layer["digest"] for layer in layers]


# --- the process ---------------------------------------------------------------------------------

PROCESS = """
import sys
from pathlib import Path
from tasks.pull.seed import serve
serve(Path(sys.argv[1]), "127.0.0.1", 0, token=sys.argv[2], log=lambda line: print(line, flush=True))
"""


@contextmanager
def process_of(cache: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Yield a seed in a process of its own, its address, and what it said when it was up."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(cache), TOKEN],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        yield process, ready.split()[-1], ready
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_signals(sparse: SeedLab, number: signal.Signals, *, busy: bool) -> None:
    """A signal ends the server in seconds, with code 0 and no traceback, even while a client is served."""
    with process_of(sparse.cache) as (process, endpoint, ready):
        connection = begun(SeedLab(sparse.cache, endpoint=endpoint)) if busy else None
        if connection is not None:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")
    assert out.endswith("stopped\n")
    assert ("because this server ends" in out) == busy
    assert TOKEN not in ready + out


def test_port_that_is_taken() -> None:
    """A port that somebody has is one sentence."""
    with (
        listen("127.0.0.1", 0) as held,
        pytest.raises(PortTakenError, match=r"cannot listen on 127\.0\.0\.1:"),
    ):
        listen("127.0.0.1", held.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("", 0, "'' is not an address"),
        ("neighbour", 0, "'neighbour' is not an address"),
        ("192.0.2.1", 0, "192.0.2.1 is not an address of this host"),
        ("127.0.0.1", 70_000, "70000 is not a port"),
    ],
)
def test_address_that_cannot_be_used(host: str, port: int, text: str) -> None:
    """An address is said in numbers, and is one of this host."""
    with pytest.raises(UsageError, match=text):
        listen(host, port)
