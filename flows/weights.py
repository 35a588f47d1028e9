"""What downloads need from outside, gathered: the same for a run and for the commands about weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flows.planning import past, planned, shelf, simulated
from flows.settings import Settings
from flows.wants import Wants, parse_rate
from tasks.contracts import (
    Catalogue,
    Downloads,
    HostFacts,
    Model,
    PlannedModel,
    Reach,
    RunRecord,
    RuntimeName,
    Sink,
    Variant,
    silent,
)
from tasks.errors import UsageError
from tasks.pull.claim import store_errors
from tasks.pull.fetch.line import Line, QuietHours
from tasks.pull.fetch.web import Wires
from tasks.pull.inventory import Revision
from tasks.pull.ollama.pull import Server
from tasks.pull.resolve.lock import FILE_NAME, LockFile, Pins, key
from tasks.pull.resolve.resolve import Places
from tasks.pull.sources.job import Mirror, PullContext
from tasks.pull.store import link_path, missing, snapshot_folder
from tasks.record.history import GOOD
from tasks.wording import meant

KEPT_RECORDS = 5
"""Weights of this many good runs stay: the last one, and those to go back to."""
NOTHING = "nothing was downloaded"


def shipped(settings: Settings) -> Path:
    """Return the lock that ships beside the catalogue."""
    return settings.profiles / FILE_NAME


def pins(settings: Settings, wants: Wants) -> Pins:
    """Return the pins that count on this host, those of the export to provision from among them.

    Raises:
        UsageError: a lock file, or the index of the export, cannot be read.
    """
    made = Pins(shipped(settings), settings.state / FILE_NAME)
    if wants.weights_from:
        from tasks.pull.export import read_index  # noqa: PLC0415  # only where there is an export

        index = read_index(Path(wants.weights_from).expanduser().absolute())
        made.adopt(index.lock)
    return made


def places(settings: Settings, *, own: bool = False) -> Places:
    """Return where weights lie; `own` is for an Ollama of ours, which may have to make its folder."""
    folder = ollama_folder(settings) if own else settings.ollama_models
    return Places(settings.store, folder, settings.ollama_library)


def server(settings: Settings, *, own: bool = False) -> Server:
    """Return the Ollama that pulls: one that already runs, or (`own`) a container of ours."""
    return Server(settings.ollama, ollama_folder(settings) if own else settings.ollama_models)


def context(
    settings: Settings,
    wants: Wants,
    downloads: Downloads,
    *,
    hub: Reach | None = None,
    sink: Sink = silent,
    stop: threading.Event | None = None,
) -> PullContext:
    """Return the outside world of a run's pulls.

    Raises:
        UsageError: the limit is no rate.
    """
    own = (Path(wants.weights_from).expanduser().absolute(),) if wants.weights_from else ()
    return PullContext(
        endpoint=settings.hub,
        token=settings.hub_token,
        hub=hub,
        mirrors=tuple(Mirror(one, one, settings.seed_token) for one in settings.mirrors),
        folders=(*own, *settings.folders),
        offline=bool(own),
        line=Line(
            limit_bytes_per_s=_limit(wants.limit_rate or settings.limit_rate, downloads),
            quiet=tuple(
                QuietHours(_minute(one.start), _minute(one.end), one.limit_bytes_per_s)
                for one in downloads.quiet_hours
            ),
        ),
        wires=Wires(proxies=settings.proxy_variables, ca_file=settings.ca_file),
        sink=sink,
        stop=stop or threading.Event(),
        rehash=wants.verify,
    )


def _limit(text: str, downloads: Downloads) -> int | None:
    asked = parse_rate(text)
    limits = [one for one in (asked, downloads.limit_bytes_per_s) if one is not None]
    return asked if asked is not None else min(limits, default=None)


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return 60 * int(hours) + int(minutes)


def downloads_of(settings: Settings, profile: str) -> Downloads:
    """Return how politely a profile lets weights be fetched."""
    found = shelf(settings).profiles.get(profile)
    return found.downloads if found else Downloads()


def ollama_folder(settings: Settings) -> Path:
    """Return where our Ollama keeps its models: where any other on this host would."""
    return settings.ollama_models or settings.home / ".ollama" / "models"


def chosen(settings: Settings, facts: HostFacts, names: Sequence[str]) -> tuple[PlannedModel, ...]:
    """Return the models that are named: profiles (for their bundle), "model" or "model:variant".

    Without names, those of the plan of this host, with every runtime there is.

    Raises:
        UsageError: a name is neither.
    """
    models = shelf(settings)
    found: dict[str, PlannedModel] = {}
    for name in names or ("auto",):
        for one in _named(settings, facts, models, name):
            found.setdefault(f"{key(one)} {one.runtime}", one)
    return tuple(found.values())


def _named(settings: Settings, facts: HostFacts, models: Catalogue, name: str) -> tuple[PlannedModel, ...]:
    if name == "auto":
        wants = Wants(accept_risk=True)
        return planned(settings, facts, wants, records=past(settings), everything=True).models
    if name in models.profiles:
        return _bundle(settings, models, name)
    model, _, quantisation = name.partition(":")
    if model not in models.models:
        known = (*models.models, *models.profiles)
        raise UsageError(
            f"there is no model and no profile {model!r}{meant(model, known, quote='')}",
            NOTHING,
            "see `pmoves models` and `pmoves profile list`",
        )
    return (bare(models.models[model], quantisation),)


def _bundle(settings: Settings, models: Catalogue, profile: str) -> tuple[PlannedModel, ...]:
    """Return what a profile's bundle comes to on the hardware that it is for."""
    from tasks.detect.example import from_example  # noqa: PLC0415  # this command alone needs it

    facts = from_example(models.profiles[profile], host=profile)
    return simulated(settings, facts, Wants(profile, accept_risk=True), assumed=()).models


def bare(model: Model, quantisation: str) -> PlannedModel:
    """Return a model that is only to be fetched, in one variant, without a place in any memory.

    Raises:
        UsageError: it has no such variant.
    """
    usable = [one for one in model.variants if one.runtimes]
    found = next((one for one in usable if quantisation in {"", one.name}), None)
    if found is None:
        names = tuple(one.name for one in usable)
        raise UsageError(
            f"{model.name} has no variant {quantisation!r}{meant(quantisation, names, quote='')}",
            NOTHING,
            f"see `pmoves models {model.name}`",
        )
    return _planned(model, found, found.runtimes[0])


def _planned(model: Model, variant: Variant, runtime: RuntimeName) -> PlannedModel:
    origin = variant.origin(runtime)
    ollama = variant.ollama if origin is variant.ollama else None
    return PlannedModel(
        role=model.roles[0],
        model=model.name,
        runtime=runtime,
        residency="none",
        device="",
        port=0,
        memory_bytes=0,
        memory_measured=False,
        download_bytes=variant.size_bytes(runtime),
        weights=None if ollama else variant.weights,
        repo=None if ollama or variant.weights else variant.repo,
        ollama=ollama,
        quantisation=variant.name,
    )


# --- who needs what ------------------------------------------------------------------------------


class Kept(msgspec.Struct):
    """What `pmoves pull` brought, by "model:variant": it stays until it is pulled no more."""

    weights: dict[str, tuple[str, str]] = {}
    ollama: dict[str, str] = {}


def kept(settings: Settings) -> Kept:
    """Return what was pulled by hand on this host."""
    try:
        return msgspec.json.decode((settings.state / "pulled.json").read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return Kept()


def keep(settings: Settings, models: Sequence[PlannedModel]) -> None:
    """Note what was pulled by hand.

    Raises:
        OSError: the state folder cannot be written.
    """
    from tasks.effects.files import write_atomic  # noqa: PLC0415  # small

    now = kept(settings)
    for one in models:
        if one.weights is not None:
            now.weights[key(one)] = (one.weights.repo, one.weights.revision)
        elif one.ollama is not None:
            now.ollama[one.ollama.tag] = one.ollama.digest or ""
    write_atomic(settings.state / "pulled.json", msgspec.json.encode(now).decode())


def users(records: Sequence[RunRecord], by_hand: Kept) -> dict[Revision, tuple[str, ...]]:
    """Return which revisions are needed, and by which runs or pulls."""
    found: dict[Revision, list[str]] = {}
    good = [one for one in records if one.outcome in GOOD][-KEPT_RECORDS:]
    for record in reversed(good):
        for one in record.pulled:
            if (weights := one.planned.weights) is not None:
                found.setdefault((weights.repo, weights.revision), []).append(
                    f"{one.planned.model} (run {record.run})"
                )
    for name, (repo, revision) in by_hand.weights.items():
        found.setdefault((repo, revision), []).append(f"{name} (pulled by hand)")
    return {revision: tuple(names) for revision, names in found.items()}


def known_files(settings: Settings, records: Sequence[RunRecord], *, rehash: bool) -> dict[str, str]:
    """Check every file in the store whose digest is known here, and return what is wrong with which.

    Digests are known from the catalogue, from the lock files and from earlier runs.
    """
    pinned = pins(settings, Wants())
    known = {
        variant.weights
        for model in shelf(settings).models.values()
        for variant in model.variants
        if variant.weights
    }
    known |= pinned.all_weights()
    known |= {one.planned.weights for record in records for one in record.pulled if one.planned.weights}
    with store_errors(settings.store, 0):
        return {
            str(link_path(settings.store, weights, gap.file)): gap.damage
            for weights in sorted(known, key=lambda one: (one.repo, one.revision))
            if snapshot_folder(settings.store, weights).is_dir()
            for gap in missing(settings.store, weights, rehash=rehash)
            if gap.damage
        }


def locked(models: Sequence[PlannedModel]) -> LockFile:
    """Return the pins of models as a lock."""
    from tasks.pull.resolve.lock import LockedTag, LockedWeights  # noqa: PLC0415  # small

    return LockFile(
        weights={key(one): LockedWeights(weights=one.weights) for one in models if one.weights},
        ollama={
            one.ollama.tag: LockedTag(digest=one.ollama.digest, size_bytes=one.ollama.size_bytes)
            for one in models
            if one.ollama and one.ollama.digest and not one.weights
        },
    )
