"""Every record that crosses a stage border.

    hostname -detect-> HostFacts -plan-> Plan -pull-> PulledModel -serve-> ModelServer
             -verify-> VerifiedServer -route-> Route -record-> RunRecord

Stages exchange these records and nothing else. They are frozen, hold tuples instead of lists, and
carry units in their names: `*_bytes` are bytes (2^30 of them print as "1.0 GiB"), `*_s` seconds.

The shapes of `profiles/*.yaml` (`Model`, `Profile` and their parts) are msgspec structs, because an
unknown key in a file that a person writes must be an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Role = Literal["llm", "embeddings", "reranker", "vision", "whisper", "code"]
RuntimeName = Literal["embedded", "ollama", "llama.cpp", "tei", "vllm", "speaches"]
Residency = Literal["resident", "on-demand", "cpu", "cloud", "none"]
ChangeKind = Literal["keep", "create", "replace", "remove"]
Verdict = Literal["kept", "changed", "dropped"]
Outcome = Literal["changed", "nothing to do", "dry run", "refused", "failed", "interrupted"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Layer = Literal["vm", "wsl2", "container"]
DiskSpeed = Literal["nvme", "ssd", "rotational", "sd", "virtual", "memory", "network", "unknown"]
GpuStyle = Literal["cdi", "gpus", "runtime", "none", "unknown"]
Stage = Literal["set-up", "detect", "plan", "pull", "serve", "verify", "route", "record"]

# --- facts -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be established, and why."""

    unknown: str


NOT_ASKED = Unknown("the look that wrote this record did not ask")
"""What a field holds in records that are older than the field."""


@dataclass(frozen=True, slots=True)
class System:
    """The operating system as it describes itself, and what lies below it.

    `layers` names what separates it from the metal, outermost first; empty is a bare machine.
    """

    hostname: str
    os: str | Unknown
    kernel: str
    architecture: str
    python: str
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor. `flags` holds only those that change what a runtime can do.

    `quota_cores` is the share of them that a control group allows; None is all.
    """

    vendor: str | Unknown
    model: str | Unknown
    logical_cores: int
    physical_cores: int | Unknown
    flags: tuple[str, ...]
    numa_nodes: int = 1
    quota_cores: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory; `available_bytes` is what the kernel says programs can still take.

    Where a control group allows less than the machine has (`limit_bytes`), total and available are
    what this program can use: the smaller of both.
    """

    total_bytes: int | Unknown
    available_bytes: int | Unknown
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that really holds `path`. `speed` is its class, where that is cheap to know."""

    purpose: str
    path: str
    mount: str
    filesystem: str
    total_bytes: int
    free_bytes: int
    speed: DiskSpeed = "unknown"


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that holds memory of a device. Its pid is the one that the driver's namespace has."""

    pid: int
    memory_bytes: int | Unknown


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device that can run models: a card, a MIG slice of one, or a part of the processor.

    `index` is its place among its vendor's devices in the order of the PCI bus; a slice has its card's.
    A `unified` device has no memory of its own: total, free and reserved are main memory, its
    available bytes and what the system keeps of them, and must not be counted beside main memory.
    `memory_used_bytes` is what all processes hold of it, `processes` those that the driver tells.
    """

    vendor: Vendor
    name: str
    uuid: str | Unknown
    memory_total_bytes: int | Unknown
    memory_free_bytes: int | Unknown
    compute_capability: str | Unknown
    driver: str | Unknown
    index: int = 0
    bus_id: str | Unknown = NOT_ASKED
    runtime: str | Unknown = NOT_ASKED
    memory_reserved_bytes: int | Unknown = NOT_ASKED
    memory_used_bytes: int | Unknown = NOT_ASKED
    processes: tuple[DeviceProcess, ...] = ()
    unified: bool = False
    slice_of: str | None = None


@dataclass(frozen=True, slots=True)
class Jetson:
    """A Jetson's chip ("tegra234"), module ("p3767-0005"), and the release of its system software."""

    chip: str
    module: str | Unknown
    l4t: str | Unknown
    jetpack: str | Unknown


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy variable that is set, and where it points, without the credentials."""

    variable: str
    address: str


@dataclass(frozen=True, slots=True)
class EngineGpu:
    """How the container engine hands a GPU to a container, or why it cannot."""

    style: GpuStyle
    why: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether something outside this program answers, and what it said or why not."""

    name: str
    address: str
    answers: bool
    detail: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What one look at a host established. Nothing in it is a guess."""

    host: str
    seen_at: str
    system: System
    cpu: Cpu
    memory: Memory
    disks: tuple[Disk, ...]
    accelerators: tuple[Accelerator, ...] | Unknown
    board: str | Unknown
    container_engine: Reach
    hub: Reach
    ollama_library: Reach
    jetson: Jetson | None = None
    engine_gpu: EngineGpu = EngineGpu("unknown", NOT_ASKED.unknown)
    proxies: tuple[Proxy, ...] = ()


# --- the catalogue: shapes of profiles/*.yaml ----------------------------------------------------


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping in a profile file; an unknown key is an error."""


class WeightFile(Shape, frozen=True):
    """One file of a repository, pinned by its digest. `sha256` is 64 lower-case hex digits."""

    path: str
    size_bytes: int
    sha256: str


class WheelMirror(Shape, frozen=True):
    """A wheel on the package index that carries the same files below `prefix`."""

    project: str
    version: str
    filename: str
    size_bytes: int
    sha256: str
    prefix: str


class Weights(Shape, frozen=True):
    """The files that a model needs, pinned at a 40-hex `revision` of a Hugging Face `repo`."""

    repo: str
    revision: str
    files: tuple[WeightFile, ...]
    wheel: WheelMirror | None = None

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(file.size_bytes for file in self.files)


class OllamaTag(Shape, frozen=True):
    """A tag of the Ollama library. Either `digest` (64 hex) or `unpinned`, the reason there is none."""

    tag: str
    size_bytes: int
    digest: str | None = None
    unpinned: str | None = None


class UnpinnedRepo(Shape, frozen=True):
    """A Hugging Face repo whose files have no known digests yet; `unpinned` is the reason.

    `size_bytes` counts only the files of this variant. Nothing is pulled from it before it is pinned.
    """

    repo: str
    size_bytes: int
    unpinned: str
    revision: str | None = None


class Estimate(Shape, frozen=True):
    """A number of bytes and where it comes from. `measured` is false where it was only computed."""

    value_bytes: int
    basis: str
    measured: bool = False


class Model(Shape, frozen=True):
    """An entry of the catalogue: one AI model in one variant.

    `weights`, `ollama` or `unpinned_repo` say where its bytes come from; `runtimes` are those that can
    serve these bytes. `memory` is what one running server of it takes. `guide` says what the
    recommendation guide has instead, where it was wrong.
    """

    name: str
    title: str
    role: Role
    runtimes: tuple[RuntimeName, ...]
    licence: str
    memory: Estimate
    sources: tuple[str, ...]
    gated: bool = False
    dimensions: int | None = None
    max_tokens: int | None = None
    weights: Weights | None = None
    ollama: OllamaTag | None = None
    unpinned_repo: UnpinnedRepo | None = None
    guide: str | None = None


class Match(Shape, frozen=True):
    """The hardware that a profile asks for. An absent key asks for nothing.

    `min_memory_bytes` counts the memory of all accelerators (or main memory when `accelerator` is
    absent); `names` are parts of the device's or board's own name, used to rank profiles only:
    what a device has is read from the device.
    """

    accelerator: Literal["nvidia"] | None = None
    board: str | None = None
    min_cards: int = 0
    min_card_memory_bytes: int = 0
    min_memory_bytes: int = 0
    names: tuple[str, ...] = ()


class Wish(Shape, frozen=True):
    """For one role: the models that are wanted, best first. Empty means none, with `reason`."""

    role: Role
    models: tuple[str, ...] = ()
    reason: str | None = None


class Profile(Shape, frozen=True):
    """A hardware profile: what hardware it is for, and the bundle it wishes for."""

    name: str
    title: str
    hardware: str
    match: Match
    bundle: tuple[Wish, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models and profiles, by name, in the order of their names."""

    models: dict[str, Model]
    profiles: dict[str, Profile]


# --- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuntimeOffer:
    """Whether a runtime can be used on this host now; `reason` when it cannot."""

    name: RuntimeName
    available: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the weight store already holds: for each model, the bytes still missing."""

    path: str
    missing_bytes: dict[str, int]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """One model that the plan places on the host."""

    role: Role
    model: str
    runtime: RuntimeName
    residency: Residency
    device: str
    port: int
    memory_bytes: int
    memory_measured: bool
    download_bytes: int
    weights: Weights
    dimensions: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one role of the bundle, and why, in one sentence."""

    role: Role
    verdict: Verdict
    wish: str
    model: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The bundle as it is placed on one host, before byte one.

    `advice` says what installing something would add. `disk_needed_bytes` counts the bytes still
    missing, twice where a source needs room to unpack, plus the margin.
    """

    host: str
    profile: str
    profile_why: str
    models: tuple[PlannedModel, ...]
    decisions: tuple[Decision, ...]
    download_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    store: str
    advice: tuple[str, ...]


# --- doing ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one resource, or why nothing had to be done."""

    resource: str
    kind: ChangeKind
    reason: str


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model whose every file is on disk and has the digest that the catalogue pins.

    `snapshot` is the folder in a Hugging Face cache that holds the files, `source` the source that
    brought the missing ones ("" when none was missing), `fetched_bytes` what crossed the network.
    """

    planned: PlannedModel
    cache: str
    snapshot: str
    source: str
    fetched_bytes: int
    seconds: float
    change: Change


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A local process that the supervisor keeps running.

    `environment` is added to a small clean environment; `stop_timeout_s` is the time between
    SIGTERM and SIGKILL. Equal specs mean that a running process can stay.
    """

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    stop_timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor says of one process."""

    name: str
    running: bool
    state: str
    pid: int
    started_at: float
    spec_hash: str
    log: str


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A model server that runs and answers its health path. It is not verified yet."""

    planned: PlannedModel
    name: str
    base_url: str
    process: ProcessState
    change: Change
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One question put to a server: what was expected, what came, and how long it took."""

    question: str
    expected: str
    got: str
    right: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class VerifiedServer:
    """A model server that gave right answers to every question."""

    server: ModelServer
    answers: tuple[Answer, ...]
    latency_s: float
    texts_per_s: float
    memory_bytes: int | Unknown


@dataclass(frozen=True, slots=True)
class Route:
    """What the gateway serves: a validated config, in use, that answered a real request.

    `models` are the names that clients send; `config_hash` is the sha256 of the rendered file.
    """

    base_url: str
    models: tuple[str, ...]
    config: str
    config_hash: str
    process: ProcessState
    answers: tuple[Answer, ...]
    change: Change
    seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one stage took for one subject, relative to the start of the run."""

    stage: Stage
    subject: str
    start_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one run saw, decided, did and measured. One line of the host's history."""

    run: str
    version: str
    host: str
    started_at: str
    seconds: float
    outcome: Outcome
    error: str
    flow_run: str
    profile_wanted: str
    facts: HostFacts | None = None
    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    pulled: tuple[PulledModel, ...] = ()
    verified: tuple[VerifiedServer, ...] = ()
    route: Route | None = None
    timings: tuple[Timing, ...] = field(default=())


# --- while it happens ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a run, for a person who watches.

    `total_bytes` is 0 when there is nothing to count.
    """

    stage: Stage
    subject: str
    message: str
    done_bytes: int = 0
    total_bytes: int = 0


Sink = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Drop an event: the sink of a caller who does not watch."""
