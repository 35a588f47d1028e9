"""The commands about weights, as a person types them, against a hub on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.effects.network import listener
from tests.lab.environment import free_port
from tests.lab.hub import HubLab, Repo
from tests.lab.hub_faults import Lie
from tests.lab.weights import contents, wait_for

pytestmark = pytest.mark.real

REPO = "Qwen/Qwen3-Reranker-0.6B"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
NEEDED = {"config.json": b'{"model_type": "qwen3"}\n', "model.safetensors": bytes(range(256)) * 20_000}
FILES = NEEDED | {"README.md": b"# read me\n", "onnx/model.onnx": bytes(300_000)}
NAME = "qwen3-reranker-0.6b:bf16"


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub with one of the catalogue's repositories."""
    with HubLab({REPO: Repo(FILES)}) as lab:
        yield lab


class Host:
    """A host with a state and a store of its own."""

    def __init__(self, root: Path, endpoint: str) -> None:
        self.root = root
        self.store = root / "store"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "PMOVES_STATE": str(root / "state"),
            "HF_HUB_CACHE": str(self.store),
            "HF_ENDPOINT": endpoint,
            "PMOVES_OLLAMA_LIBRARY": "http://127.0.0.1:1/v2/",
            "OLLAMA_HOST": "127.0.0.1:1",
        }
        (root / "home").mkdir(exist_ok=True)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        command = [sys.executable, "-m", "flows.cli", *words]
        pipes = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipes, stderr=pipes, text=True)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command, and return its exit code, its data and its hints."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @property
    def snapshot(self) -> Path:
        """Where the files of the lab's repository lie."""
        return self.store / f"models--{REPO.replace('/', '--')}/snapshots/{REVISION}"


@pytest.fixture
def host(tmp_path: Path, hub: HubLab) -> Host:
    """Return a host that asks the lab's hub."""
    return Host(tmp_path, hub.endpoint)


def fetched(hub: HubLab) -> int:
    """Count requests for listings and bytes; detection asks whether the hub answers, with a HEAD."""
    return sum(hub.requests[where] for where in ("api", "get", "cdn"))


def test_pull_then_weights_then_gc(host: Host, hub: HubLab) -> None:
    """What is pulled is listed with what uses it, is kept by a second pull, and stays through gc."""
    code, out, err = host.run("pull", NAME)

    assert (code, out.split()[-2:]) == (0, ["MiB", "fetched"]), err
    assert contents(host.snapshot) == NEEDED
    sent_bytes = hub.sent_bytes
    assert host.run("pull", NAME)[1].splitlines()[1].split()[1] == "keep"
    assert hub.sent_bytes == sent_bytes
    listed = json.loads(host.run("weights", "--json")[1])
    (held,) = listed["store"]["held"]
    assert (held["repo"], held["verified"], held["used_by"]) == (REPO, 2, [f"{NAME} (pulled by hand)"])
    assert host.run("gc", "--yes")[1] == "every file that was put here is in a record that is kept\n"
    assert contents(host.snapshot) == NEEDED


def test_dry_run_fetches_and_pins_nothing(host: Host, hub: HubLab) -> None:
    """--dry-run shows files and disks, and leaves no trace."""
    code, out, err = host.run("pull", NAME, "--dry-run")

    assert code == 0, err
    assert [*out.splitlines()[1].split()[:4]] == ["qwen3-reranker-0.6b", "bf16", REPO, REVISION[:12]]
    assert hub.sent_bytes == 0
    assert not (host.root / "state/weights.lock.json").exists()


def test_lock_and_update(host: Host, hub: HubLab) -> None:
    """Pins show by what they are pinned, and move when asked to."""
    assert host.run("lock", NAME)[1].splitlines()[1].split()[-1] == "-"
    host.run("lock", NAME, "--update")
    assert host.run("lock", NAME)[1].splitlines()[1].split()[-2:] == ["this", "host"]
    hub.repos[REPO] = Repo(FILES | {"config.json": b"{}"}, revision="c" * 40)

    code, out, _ = host.run("lock", NAME, "--update")

    assert code == 0
    assert out.splitlines()[1].split()[:3] == [NAME, REVISION[:12], "c" * 12]
    assert out.splitlines()[-1] == "1 pin moved; the next pull or run brings these bytes"


def test_damage_is_found_by_verify_and_healed_by_pull(host: Host) -> None:
    """A file that was written to shows as damaged, and the next pull replaces it."""
    host.run("pull", NAME)
    (host.snapshot / "config.json").resolve().write_bytes(b"{}")

    assert "damaged: " in host.run("weights")[1]
    assert "config.json was damaged (2 bytes instead of 24)" in host.run("pull", NAME)[1]
    assert "damaged: " not in host.run("weights", "--verify")[1]


def test_an_interrupt_leaves_what_the_next_pull_goes_on_from(host: Host, hub: HubLab) -> None:
    """Ctrl-C ends within a moment with one sentence; the next pull fetches only what is missing."""
    hub.buffer_bytes = 65536
    hub.link_bytes_per_s = 3_000_000
    with host.start("pull", NAME) as process:
        wait_for(lambda: hub.sent_bytes > 2_000_000, what="the middle of the download")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "pmoves: stopped" in err
    assert "Traceback" not in err
    assert not host.snapshot.is_dir() or "model.safetensors" not in contents(host.snapshot)
    before = hub.sent_bytes
    hub.link_bytes_per_s = None

    assert host.run("pull", NAME)[0] == 0
    assert contents(host.snapshot) == NEEDED
    assert hub.sent_bytes - before < len(NEEDED["model.safetensors"]) - 1_000_000


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("pull", "qwen3-rerankr-0.6b"), "there is no model and no profile 'qwen3-rerankr-0.6b'"),
        (("pull", "qwen3-reranker-0.6b:q9"), "qwen3-reranker-0.6b has no variant 'q9'"),
        (("pull", NAME, "--limit-rate", "fast"), "the limit of downloads is 'fast', which is not a rate"),
        (("pull", NAME, "--limit-rate", "10"), "which is 10 bytes a second"),
        (("pull", NAME, "--limit-rate", ""), "--limit-rate is empty"),
        (("seed", "--bind", "127.0.0.1"), "PMOVES_SEED_TOKEN is not set"),
        (("pull", NAME, "--from", "/nowhere/at/all"), "/nowhere/at/all"),
        (("export", NAME, "/dev/null/x"), "x"),
    ],
)
def test_bad_requests_are_one_sentence(host: Host, words: tuple[str, ...], text: str) -> None:
    """Whatever is wrong is said in one line, with an exit code that tells so."""
    code, out, err = host.run(*words)

    assert code in {2, 3, 5}
    assert out == ""
    assert text in err
    assert "Traceback" not in err
    assert err.rstrip().endswith(".")


def test_a_damaged_lock_is_one_sentence(host: Host) -> None:
    """A lock file that cannot be read stops the command before anything is asked."""
    (host.root / "state").mkdir()
    (host.root / "state/weights.lock.json").write_text("{")

    code, _, err = host.run("pull", NAME)

    assert code == 2
    assert "weights.lock.json cannot be read" in err


def test_a_disk_that_is_too_small_is_refused_before_byte_one(host: Host, hub: HubLab) -> None:
    """The verdict over the bundle comes before anything is fetched, and pins nothing."""
    hub.fail("api", Lie(file="model.safetensors", size=1 << 50))

    code, _, err = host.run("pull", NAME)

    assert code == 3
    assert "1 model (qwen3-reranker-0.6b) still need 1048576.0 GiB" in err
    assert hub.sent_bytes == 0


def test_export_provisions_a_host_without_a_network(host: Host, hub: HubLab, tmp_path: Path) -> None:
    """What one host exports, another one takes, pins and all, and asks nobody."""
    host.run("pull", NAME)
    code, out, err = host.run("export", NAME, str(tmp_path / "usb"))
    assert code == 0, err
    assert out.startswith(f"{tmp_path / 'usb'} holds 1 model: {NAME}\n2 files (4.9 MiB) copied")
    asked = fetched(hub)
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other", hub.endpoint)

    code, out, err = other.run("pull", NAME, "--from", str(tmp_path / "usb"))

    assert code == 0, err
    assert contents(other.snapshot) == NEEDED
    assert f"copied 4.9 MiB from {tmp_path / 'usb'}" in out
    assert fetched(hub) == asked
    assert other.run("lock", NAME)[1].splitlines()[1].split()[-2:] == ["this", "host"]


def test_export_of_what_is_not_here_is_refused(host: Host, tmp_path: Path) -> None:
    """An export names what is missing, before it writes anything."""
    code, _, err = host.run("export", NAME, str(tmp_path / "usb"))

    assert code != 0
    assert "Traceback" not in err
    assert not (tmp_path / "usb/index.json").exists()


def test_a_neighbour_seeds(host: Host, hub: HubLab, tmp_path: Path) -> None:
    """A host that seeds gives its verified weights to another, for the token and without the hub."""
    host.run("pull", NAME)
    asked = fetched(hub)
    host.environment["PMOVES_SEED_TOKEN"] = "s3cret"
    port = free_port()
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other", "http://127.0.0.1:1")
    other.environment |= {"PMOVES_MIRRORS": f"http://127.0.0.1:{port}", "PMOVES_SEED_TOKEN": "s3cret"}
    (other.root / "state").mkdir()
    (other.root / "state/weights.lock.json").write_text((host.root / "state/weights.lock.json").read_text())
    with host.start("seed", "--bind", "127.0.0.1", "--port", str(port)) as seeder:
        wait_for(lambda: listener(port), what="the neighbour")
        code, out, err = other.run("pull", NAME)
        seeder.send_signal(signal.SIGTERM)
        _, said = seeder.communicate(timeout=60)

    assert code == 0, err
    assert contents(other.snapshot) == NEEDED
    assert f"from http://127.0.0.1:{port}" in out
    assert fetched(hub) == asked
    assert "s3cret" not in out + err + said
