"""Every record that crosses a stage border.

    hostname -detect-> HostFacts -plan-> Plan -pull-> PulledModel -serve-> ModelServer
             -verify-> VerifiedServer -route-> Route -record-> RunRecord

Stages exchange these records and nothing else. They are frozen, hold tuples instead of lists, and
carry units in their names: `*_bytes` are bytes (2^30 of them print as "1.0 GiB"), `*_s` seconds.

The shapes of `profiles/*.yaml` (`Model`, `Profile` and their parts) are msgspec structs, because an
unknown key in a file that a person writes must be an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Role = Literal["llm", "embeddings", "reranker", "vision", "whisper", "code"]
RuntimeName = Literal["embedded", "ollama", "llama.cpp", "tei", "vllm", "speaches", "external"]
Residency = Literal["resident", "on-demand", "cpu", "cloud", "none"]
ChangeKind = Literal["keep", "create", "replace", "remove"]
Verdict = Literal["kept", "changed", "dropped"]
Outcome = Literal["changed", "nothing to do", "dry run", "refused", "failed", "interrupted"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Layer = Literal["vm", "wsl2", "container"]
DiskSpeed = Literal["nvme", "ssd", "rotational", "sd", "virtual", "memory", "network", "unknown"]
GpuStyle = Literal["cdi", "gpus", "runtime", "none", "unknown"]
ImageFor = Literal["cpu", "cuda", "rocm", "jetson"]
KvType = Literal["f16", "q8_0", "q4_0"]
May = Literal["share", "wait", "cpu", "cloud"]
Tier = Literal["local", "affordable", "premium"]
Part = Literal["weights", "projector", "kv", "compute", "overhead"]
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

    @property
    def kept_bytes(self) -> int | Unknown:
        """What a plan leaves to the system: a sixteenth, from 0.5 to 4 GiB. Chosen here, not measured."""
        if isinstance(self.total_bytes, Unknown):
            return self.total_bytes
        return min(max(self.total_bytes // 16, 512 << 20), 4 << 30)


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
    ollama: Reach = Reach("Ollama", "", answers=False, detail=NOT_ASKED.unknown)


# --- the catalogue: shapes of profiles/*.yaml ----------------------------------------------------


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping in a profile file; an unknown key is an error."""


class WeightFile(Shape, frozen=True):
    """One file of a repository, pinned by its digest.

    `sha256` is 64 lower-case hex digits. A small file that was resolved at the hub may have the name of
    its git blob instead (`git_sha1`, 40 hex digits), for the hub states no other digest of it.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def digest(self) -> str:
        """The digest with its kind: "sha256:..." or "git:..."."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.git_sha1}"


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
    """A tag of the Ollama library. Either `digest` (64 hex) or `unpinned`, the reason there is none.

    `size_bytes` is the sum of the manifest's layers, a projector among them. `size_basis` says how it was
    established where that is not the manifest itself.
    """

    tag: str
    size_bytes: int
    digest: str | None = None
    unpinned: str | None = None
    size_basis: str | None = None


class UnpinnedRepo(Shape, frozen=True):
    """A Hugging Face repo whose files have no known digests yet; `unpinned` is the reason.

    `size_bytes` counts only the files of this variant. Nothing is pulled from it before it is pinned.
    """

    repo: str
    size_bytes: int
    unpinned: str
    revision: str | None = None
    size_basis: str | None = None


class Estimate(Shape, frozen=True):
    """A number of bytes and where it comes from. `measured` is false where it was only computed."""

    value_bytes: int
    basis: str
    measured: bool = False


class Variant(Shape, frozen=True):
    """A model in one quantisation: the bytes, where they come from, and what can serve them.

    `name` is the quantisation as its makers write it, in lower case: "q4_k_m", "q8_0", "bf16", "fp16",
    "int8", "mxfp4". `runtimes` stand in order of preference. The runtime "ollama" loads `ollama`, all
    others load `weights` or, before its digests are known, `repo`. `projector_bytes` is the part of the
    size that is a vision projector. `memory` replaces every estimate where a whole server was measured.
    """

    name: str
    runtimes: tuple[RuntimeName, ...]
    weights: Weights | None = None
    ollama: OllamaTag | None = None
    repo: UnpinnedRepo | None = None
    projector_bytes: int = 0
    memory: Estimate | None = None

    def origin(self, runtime: RuntimeName) -> Weights | OllamaTag | UnpinnedRepo | None:
        """Return where `runtime` takes this variant's bytes from."""
        return self.ollama if runtime == "ollama" else self.weights or self.repo

    def size_bytes(self, runtime: RuntimeName) -> int:
        """Return how many bytes `runtime` loads; 0 when it has no origin for them."""
        origin = self.origin(runtime)
        return origin.size_bytes if origin else 0


class Attention(Shape, frozen=True):
    """What a decoder keeps of each token: in f16, 2 x layers x kv_heads x head_dim x 2 bytes.

    `bytes_per_token` (f16, all layers) replaces that product where it is wrong, as for latent attention
    (MLA). `windowed_layers` of the layers keep only the last `window_tokens`. `recurrent_layers` keep no
    token at all (hybrid models). `upper_bound` marks a product that counts more than is kept, and
    `note` says why.
    """

    layers: int
    kv_heads: int
    head_dim: int
    heads: int | None = None
    bytes_per_token: int | None = None
    window_tokens: int | None = None
    windowed_layers: int = 0
    recurrent_layers: int = 0
    upper_bound: bool = False
    note: str | None = None


class Model(Shape, frozen=True):
    """An entry of the catalogue: one AI model with its variants.

    `roles` are those it can play: a chat model that sees and codes has three. `variants` stand in order of
    preference: the first is the usual choice, those behind it and not larger are its ladder down, and a
    larger one is taken only where a bundle names it. `context` is the trained context in tokens,
    `vocabulary` the number of tokens there are, where it is larger than 160,000,
    `max_tokens` what an embedding model or a reranker takes of one text. `parameters` and
    `active_parameters` are counts. `guide` says what the recommendation guide has instead, where it was
    wrong; `unserved` why no runtime here serves the model, where none does.
    """

    name: str
    title: str
    roles: tuple[Role, ...]
    licence: str
    sources: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    parameters: int | None = None
    active_parameters: int | None = None
    attention: Attention | None = None
    context: int | None = None
    vocabulary: int | None = None
    dimensions: int | None = None
    max_tokens: int | None = None
    non_commercial: bool = False
    gated: bool = False
    guide: str | None = None
    unserved: str | None = None

    def variant(self, name: str) -> Variant | None:
        """Return the variant of that name."""
        return next((one for one in self.variants if one.name == name), None)


class Match(Shape, frozen=True):
    """The hardware that a profile asks for. An absent key asks for nothing.

    `accelerator` is a vendor; with `unified` its device shares main memory, without it has memory of its
    own. `min_memory_bytes` counts the memory of all such devices (or main memory when `accelerator` is
    absent or `unified`), `max_memory_bytes` bounds it. `board` and `chips` are a Jetson's. `names` are
    parts of the device's or board's own name, used to rank profiles only: what a device has is read from
    the device.
    """

    accelerator: Vendor | None = None
    unified: bool = False
    board: str | None = None
    chips: tuple[str, ...] = ()
    min_cards: int = 0
    min_card_memory_bytes: int = 0
    min_memory_bytes: int = 0
    max_memory_bytes: int | None = None
    names: tuple[str, ...] = ()


class Wish(Shape, frozen=True):
    """For one role: the models that are wanted, best first. Empty means none, with `reason`.

    `quantisations` stand in order of preference and replace the order of each model's variants.
    `context` is how many tokens a request may have, `min_context` the fewest that are worth serving:
    rather than go below it, the plan takes another step. `kv_types` are those that may be used, best
    first; `parallel` is how many requests are answered at once. What the role `may` do when it does not
    fit: share a model that another role has, wait for its turn in memory, run on the CPU, leave to a cloud.
    """

    role: Role
    models: tuple[str, ...] = ()
    quantisations: tuple[str, ...] = ()
    context: int | None = None
    min_context: int | None = None
    kv_types: tuple[KvType, ...] = ("f16", "q8_0")
    parallel: int = 1
    may: tuple[May, ...] = ("share",)
    reason: str | None = None


class Limits(Shape, frozen=True):
    """What a plan leaves alone. `margin_bytes` stays free on each device; chosen, not measured.

    Without `accelerators` the bundle runs in main memory alone, whatever else is there. On a CPU, no model is
    placed that reads more than `cpu_read_bytes` for a token: at the 40 GB/s of a desktop's main memory, 8 GB
    are 5 tokens a second at best; chosen, not measured. A model that does not lie where the plan says, such
    as one that fell back to the CPU, fails its verification ("refuse") or is recorded as degraded
    ("degrade").
    """

    margin_bytes: int = 512 << 20
    accelerators: bool = True
    cpu_read_bytes: int = 8_000_000_000
    misplaced: Literal["refuse", "degrade"] = "refuse"


class QuietTime(Shape, frozen=True):
    """A time of day, local, in which downloads may take less; it may go past midnight.

    `start` and `end` are written "22:30". A limit of 0 lets downloads wait until it is over.
    """

    start: str
    end: str
    limit_bytes_per_s: int


class Downloads(Shape, frozen=True):
    """How politely weights are fetched. Without `limit_bytes_per_s` they take what the line gives."""

    limit_bytes_per_s: int | None = None
    quiet_hours: tuple[QuietTime, ...] = ()


class GatewayWish(Shape, frozen=True):
    """What a profile wishes of the gateway.

    With `observability`, a database beside it keeps every request and answer, in plain text.
    """

    observability: Literal["none", "clickhouse"] = "none"


class ExampleDevice(Shape, frozen=True):
    """A device of the host that a profile is planned for when no host is here. `memory_mib` is 2^20 bytes.

    `reserved_mib` is what the driver keeps of a card of its own: an estimate, for cards keep some 300 to 600.
    """

    vendor: Vendor
    name: str
    memory_mib: int
    compute_capability: str | None = None
    unified: bool = False
    reserved_mib: int = 400


class Example(Shape, frozen=True):
    """A host of the kind that a profile is for, as such hosts report themselves."""

    memory_mib: int
    devices: tuple[ExampleDevice, ...] = ()
    architecture: str = "x86_64"
    board: str | None = None
    chip: str | None = None


class Profile(Shape, frozen=True):
    """A hardware profile: what hardware it is for, and the bundle it wishes for.

    The order of `bundle` is the order of importance: what stands lower yields first.
    """

    name: str
    title: str
    hardware: str
    match: Match
    bundle: tuple[Wish, ...]
    example: Example
    limits: Limits = Limits()
    downloads: Downloads = Downloads()
    gateway: GatewayWish = GatewayWish()
    sources: tuple[str, ...] = ()

    def without(self, roles: Collection[Role]) -> Profile:
        """Return the profile without what it wishes for some roles."""
        return msgspec.structs.replace(
            self, bundle=tuple(wish for wish in self.bundle if wish.role not in roles)
        )


class Fallback(Shape, frozen=True):
    """What takes over: a cloud model, as `provider/model`, or a plain sentence."""

    cloud: str | None = None
    text: str | None = None


class Use(Shape, frozen=True):
    """One thing a service needs of the bundle.

    `models` are those that the service is made for, best first; empty means whatever the bundle has for
    the role. `context` is how many tokens it sends. Without `required`, the service works without it.
    `function` is what the gateway calls it, for roles that answer in text; None where it has none. Only with
    `may_leave` may a request, and what it quotes, go to a cloud. `temperature` and `top_p` are those of
    every model behind the function, `max_tokens` is the most that an answer may have.
    """

    role: Role
    purpose: str
    models: tuple[str, ...] = ()
    context: int | None = None
    required: bool = True
    fallbacks: tuple[Fallback, ...] = ()
    function: str | None = None
    may_leave: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class Service(Shape, frozen=True):
    """A PMOVES service, and what it needs of a bundle."""

    name: str
    title: str
    uses: tuple[Use, ...]
    sources: tuple[str, ...] = ()


class Provider(Shape, frozen=True):
    """A cloud that serves models for money.

    `type` is the gateway's kind of provider, `api_base` its address where that kind has none of its own.
    `key` is the environment variable that holds the operator's key.
    """

    name: str
    title: str
    tier: Tier
    type: str
    key: str
    api_base: str | None = None
    sources: tuple[str, ...] = ()


class CloudModel(Shape, frozen=True):
    """A model of a cloud, by `provider/model` as services name it.

    `model_name` is what the provider calls it. Prices are US dollars for a million tokens, as they stood on
    the day `priced_on`; with `estimate` they could not be read from the provider, and this is the reason.
    Without `sampling` it answers a request that sets temperature or top_p with an error, so neither is sent.
    """

    name: str
    model_name: str
    input_usd_per_million: float
    output_usd_per_million: float
    priced_on: str
    roles: tuple[Role, ...] = ("llm",)
    context: int | None = None
    sampling: bool = True
    estimate: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.name.partition("/")[0]


class ToolImage(Shape, frozen=True):
    """A container image that is no model server: the gateway itself, the proxy before it, its database.

    `digest` and `unpinned` are as those of `Image`; `architectures` those that it is published for.
    """

    name: str
    repository: str
    tag: str
    port: int
    size_bytes: int
    size_basis: str
    architectures: tuple[str, ...] = ("x86_64", "aarch64")
    digest: str | None = None
    unpinned: str | None = None
    sources: tuple[str, ...] = ()


class Routing(Shape, frozen=True):
    """The gateway's images, and where it may turn to beyond this host.

    Providers stand in the order of their tiers.
    """

    providers: tuple[Provider, ...] = ()
    models: tuple[CloudModel, ...] = ()
    images: tuple[ToolImage, ...] = ()


NO_ROUTING = Routing()


class Image(Shape, frozen=True):
    """A container image of a runtime, for one kind of accelerator.

    `digest` ("sha256:" and 64 hex digits) is that of the index or manifest; without it `unpinned` is the
    reason, and the digest is established at the first pull and kept by the host. `compute` are the compute
    capabilities that it is built for ("8.6"), empty for those from `least_compute` on; `l4t` the major
    releases of a Jetson's system software. `command` stands before the arguments that the plan gives. `port`
    is where it listens.

    `user` is "any" where it runs as any user, else the one it must have. What of the hardening it does not
    allow stands in `exceptions`, one sentence each: `writable_root` needs one, and so does `user: root`.
    """

    runtime: RuntimeName
    accelerator: ImageFor
    architectures: tuple[str, ...]
    repository: str
    tag: str
    port: int
    size_bytes: int
    size_basis: str
    sources: tuple[str, ...]
    digest: str | None = None
    unpinned: str | None = None
    compute: tuple[str, ...] = ()
    least_compute: str | None = None
    least_driver: str | None = None
    l4t: tuple[int, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    user: str = "any"
    writable_root: bool = False
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108  # inside a container
    health: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The image as an engine is asked for it, without its digest."""
        return f"{self.repository}:{self.tag}"

    def told(self, environment: dict[str, str]) -> Image:
        """Return the image with more variables that are set in its containers."""
        return msgspec.structs.replace(self, environment={**self.environment, **environment})


class JetPack(Shape, frozen=True):
    """What a release of a Jetson's system software (`l4t`, the major number) means for containers.

    `gpu` is how an engine hands the GPU out there. With `refused` no container is given the GPU, and why.
    `environment` is what images need to be told on it.
    """

    l4t: int
    jetpack: str
    gpu: GpuStyle
    sources: tuple[str, ...]
    environment: dict[str, str] = {}
    refused: str | None = None


class DeviceFact(Shape, frozen=True):
    """How fast a device reads its memory, as its maker states it; `name` is a part of its own name."""

    name: str
    memory_bytes_per_s: int
    source: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models, profiles and services, by name, in the order of their names.

    `images` stand in order of preference: the first that fits a runtime and its devices is used.
    """

    models: dict[str, Model]
    profiles: dict[str, Profile]
    services: dict[str, Service]
    devices: tuple[DeviceFact, ...]
    images: tuple[Image, ...] = ()
    jetpacks: tuple[JetPack, ...] = ()
    routing: Routing = NO_ROUTING


# --- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuntimeOffer:
    """Whether a runtime can be used on this host now; `reason` when it cannot.

    `external` is the address of a server of its kind that already runs and is used instead of one of ours.
    """

    name: RuntimeName
    available: bool
    reason: str = ""
    external: str = ""


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the weight store already holds: the bytes still missing, by model and variant."""

    path: str
    missing_bytes: dict[str, int]

    @staticmethod
    def key(model: str, variant: str) -> str:
        """Return the name under which a variant's missing bytes are counted."""
        return f"{model} {variant}"


@dataclass(frozen=True, slots=True)
class Need:
    """What one server of a model takes of memory, in bytes.

    `layer_bytes` is the largest piece that cannot be cut when the model is split over cards.
    `measured` is true where a whole server was measured; `basis` says from what the figures come.
    """

    weights_bytes: int
    projector_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    overhead_bytes: int = 0
    layer_bytes: int = 0
    measured: bool = False
    basis: str = ""

    @property
    def total_bytes(self) -> int:
        """All of it, on one device."""
        return (
            self.weights_bytes
            + self.projector_bytes
            + self.kv_bytes
            + self.compute_bytes
            + self.overhead_bytes
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """What one server took and gave on this host in an earlier run. `per_s` is in `unit` a second."""

    model: str
    quantisation: str
    runtime: RuntimeName
    on_gpu: bool
    memory_bytes: int
    context: int = 0
    kv_type: KvType = "f16"
    parallel: int = 1
    per_s: float = 0.0
    unit: str = "texts/s"
    first_token_s: float = 0.0
    load_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a model that lies on one device. `layers` is 0 where the whole model does."""

    device: str
    memory_bytes: int
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens (or texts) a second; estimated from memory bandwidth unless measured. `basis` says from what."""

    per_s: float
    unit: str
    basis: str
    measured: bool = False


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """One model that the plan places on the host, in one variant.

    `also` are further roles that the same server plays. `devices` says where its memory lies; for an
    on-demand model that is where it lies while it is loaded, and `group` names those that take turns.
    `context` is in tokens for each of `parallel` requests. `settings` are those of this model's server
    that its runtime would otherwise choose by itself. `external` is the address of a server that already runs
    and is not ours: an OpenAI client's base URL, or for the runtime "ollama" that of Ollama's own API.
    """

    role: Role
    model: str
    runtime: RuntimeName
    residency: Residency
    device: str
    port: int
    memory_bytes: int
    memory_measured: bool
    download_bytes: int
    weights: Weights | None = None
    dimensions: int | None = None
    max_tokens: int | None = None
    quantisation: str = ""
    ollama: OllamaTag | None = None
    repo: UnpinnedRepo | None = None
    also: tuple[Role, ...] = ()
    context: int = 0
    kv_type: KvType = "f16"
    parallel: int = 1
    group: str = ""
    server: str = ""
    devices: tuple[Share, ...] = ()
    need: Need | None = None
    speed: Speed | None = None
    settings: tuple[tuple[str, str], ...] = ()
    external: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a role's ladder: a sentence with both numbers, and whether it was taken."""

    text: str
    taken: bool
    needs_bytes: int | None = None
    left_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one role of the bundle, and why, in one sentence; `steps` is the whole way there."""

    role: Role
    verdict: Verdict
    wish: str
    model: str | None
    why: str
    residency: Residency = "none"
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """A piece of a device's memory: a part of a model, and the group that it takes turns in."""

    model: str
    part: Part
    memory_bytes: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device's memory as the plan fills it.

    total = reserved (the driver, or the system) + others (other programs) + margin + budget; `budget_bytes`
    is what the plan may use, `parts` what it uses. Members of a group lie over each other, so a group
    takes what its largest member takes. `unified` devices are main memory as well.
    """

    device: str
    name: str
    total_bytes: int
    reserved_bytes: int
    others_bytes: int
    margin_bytes: int
    budget_bytes: int
    used_bytes: int
    parts: tuple[MemoryPart, ...] = ()
    unified: bool = False


@dataclass(frozen=True, slots=True)
class PlannedServer:
    """One server process of the plan: a runtime on some devices, with the models that it serves.

    `settings` are written out, so that no runtime's default, which differs from host to host, decides.
    `image` is what a container is made of; None for a process of this program and for a server that is not
    ours (`external` is then its address). `memory_bytes` is what the plan gives it of main memory, and
    `device_bytes` of all cards together; `shares` is what it takes of each device while all that
    stay are loaded and, of those that take turns, the largest.
    """

    name: str
    runtime: RuntimeName
    residency: Residency
    devices: tuple[str, ...]
    models: tuple[str, ...]
    port: int
    settings: tuple[tuple[str, str], ...]
    image: Image | None = None
    external: str = ""
    memory_bytes: int = 0
    device_bytes: int = 0
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedUse:
    """What one need of a service gets: `by` names the model or the cloud, or is empty; `why` says more."""

    role: Role
    purpose: str
    by: str
    as_wished: bool
    why: str


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Whether the bundle serves a service, and by what."""

    service: str
    title: str
    served: bool
    uses: tuple[ServedUse, ...]


@dataclass(frozen=True, slots=True)
class RouteTier:
    """One model behind a function of the gateway.

    `name` is the variant's ("local", or the provider: "venice"), `by` the model: one of the plan, or a
    cloud's as `provider/model`.
    """

    tier: Tier
    name: str
    by: str


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A function of the gateway: what one use of a service calls, and who answers.

    `tiers` stand in the order in which they are tried. `complex_tiers` are tried instead for requests that
    their caller marks as complex (namespace "complex"); empty where there is no premium model. `left_out`
    says in one sentence each which step is not there, and why. `max_tokens` caps an answer; 0 is no cap.
    """

    function: str
    service: str
    role: Role
    purpose: str
    tiers: tuple[RouteTier, ...]
    complex_tiers: tuple[RouteTier, ...] = ()
    left_out: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The bundle as it is placed on one host, before byte one.

    `warnings` come before all else: a device that is not planned on, or is filled to the last. `advice` says
    what installing something would add, `marks` what a licence or a gate asks, `assumed` what was taken for
    granted of a host that is not here. `disk_needed_bytes` counts the bytes still
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
    devices: tuple[DeviceMemory, ...] = ()
    servers: tuple[PlannedServer, ...] = ()
    services: tuple[ServicePlan, ...] = ()
    marks: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    routes: tuple[PlannedRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a run would do to one resource. `download_bytes` is 0 where nothing is fetched."""

    resource: str
    kind: ChangeKind
    reason: str
    download_bytes: int = 0


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
class Mount:
    """A folder or file of the host inside a container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class GpuAccess:
    """How a container gets its devices, and which.

    "cdi": names such as "nvidia.com/gpu=GPU-…"; "gpus": UUIDs for a device request; "runtime": the runtime
    nvidia, which is told by NVIDIA_VISIBLE_DEVICES; "none" with paths ("/dev/kfd") hands these out, and
    without any, nothing.
    """

    style: GpuStyle = "none"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container as it is wanted. Equal specs mean that a running container can stay.

    `image` is pinned: "repository@sha256:…". `secrets` are files of the host that appear below /run/secrets,
    by name; their content counts by a salted digest alone (`secrets_digest`). `port` is where the server
    listens inside; where it is published on 127.0.0.1 is no part of the spec. A size of 0 sets no limit.
    `devices` are those of the plan ("gpu0"). `health` is a command that runs inside; empty for none. With
    `host_network` it has the host's own network, nothing is published, and it must itself listen on
    127.0.0.1. `entrypoint` replaces that of the image; empty leaves it.
    """

    name: str
    server: str
    image: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    port: int
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    secrets_digest: str = ""
    gpu: GpuAccess = GpuAccess()
    devices: tuple[str, ...] = ()
    user: str = ""
    groups: tuple[str, ...] = ()
    read_only_root: bool = True
    memory_bytes: int = 0
    shm_bytes: int = 0
    pids: int = 0
    health: tuple[str, ...] = ()
    stop_timeout_s: int = 30
    host_network: bool = False
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the engine says of one container.

    `owner` is who made it (see `tasks.effects.containers`), "" when the label is missing. `state` is the
    engine's word: "created", "running", "restarting", "exited", "dead". `published` is its port on 127.0.0.1,
    0 for none; `devices` are those of the plan that it was made for ("gpu0"). What a listing does not say,
    and an inspection does: `pid`, of its first process on the host (0 when it does not run), `started_at`,
    `exit_code`, `oom_killed` and `restarts`.
    """

    name: str
    id: str
    state: str
    owner: str = ""
    server: str = ""
    spec_hash: str = ""
    image: str = ""
    pid: int = 0
    started_at: float = 0.0
    published: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    restarts: int = 0
    devices: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.state == "running"


RerankApi = Literal["", "tei", "jina"]


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A model server that runs and answers its health path. It is not verified yet.

    `model_id` is the name by which the server knows the model; `image` and `container` are empty for a
    process of this program and for a server that is not ours. `rerank_api` says how it is asked to score
    documents: "tei" is POST /rerank {query, texts}, "jina" POST /v1/rerank {model, query, documents}.
    """

    planned: PlannedModel
    name: str
    base_url: str
    process: ProcessState
    change: Change
    seconds: float
    model_id: str = ""
    container: str = ""
    image: str = ""
    rerank_api: RerankApi = ""
    load_s: float = 0.0

    @property
    def asked_as(self) -> str:
        """What a request names as its model."""
        return self.model_id or self.planned.model


@dataclass(frozen=True, slots=True)
class Answer:
    """One question put to a server: what was expected, what came, and how long it took."""

    question: str
    expected: str
    got: str
    right: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """What a model holds of one device ("gpu0", "cpu") while it is loaded, and who says so."""

    device: str
    memory_bytes: int
    basis: str


@dataclass(frozen=True, slots=True)
class Performance:
    """What a server gave when it was measured. 0 where its role has no such figure.

    `first_token_s` is the time to the first token of a short question, `tokens_per_s` the pace after it,
    `realtime` seconds of speech a second. `context` is the number of tokens that were really found to be
    served.
    """

    first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    prompt_tokens_per_s: float = 0.0
    texts_per_s: float = 0.0
    realtime: float = 0.0
    load_s: float = 0.0
    context: int = 0


@dataclass(frozen=True, slots=True)
class VerifiedServer:
    """A model server that gave right answers to every question.

    `memory_bytes` is what the model takes of the memory that it was planned on; `held` says where it lies.
    `findings` are sentences about what is worse than planned or than before, `degraded` says that it serves,
    but not where the plan has it.
    """

    server: ModelServer
    answers: tuple[Answer, ...]
    latency_s: float
    texts_per_s: float
    memory_bytes: int | Unknown
    performance: Performance = Performance()
    held: tuple[Held, ...] = ()
    findings: tuple[str, ...] = ()
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """What the gateway serves: a validated config, in use, that answered a real request.

    `models` are the names that clients send; `config_hash` is the sha256 of the whole file, hand-written
    parts included. `process` is the gateway's, or stands for its container, which `container` names.
    `generation` names the folder of its config. `proxy` says what owns the port ("haproxy", "front"), `diff`
    what changed in the config as a unified diff, `watched` what was seen after the switch, in one sentence.
    `environment` are the lines of `pmoves.env`, `left_out` what the gateway does not serve, and why. `chosen`
    says which kinds of gateway and proxy were taken, and why.
    """

    base_url: str
    models: tuple[str, ...]
    config: str
    config_hash: str
    process: ProcessState
    answers: tuple[Answer, ...]
    change: Change
    seconds: float
    functions: tuple[PlannedRoute, ...] = ()
    container: str = ""
    generation: str = ""
    proxy: str = ""
    diff: str = ""
    watched: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one stage took for one subject, relative to the start of the run."""

    stage: Stage
    subject: str
    start_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ServerLog:
    """The last words of a server that died: why, in one sentence, and the end of its output.

    `tail` has at most 4000 characters. It comes from another program: it is text and nothing else.
    """

    server: str
    cause: str
    tail: str


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
    logs: tuple[ServerLog, ...] = ()


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
