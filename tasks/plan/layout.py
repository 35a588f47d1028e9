"""Where the bytes of a plan lie: the parts of cut models, and the memory of each device. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.contracts import DeviceMemory, MemoryPart, Need, Part, PlannedModel, Share
from tasks.plan.budget import MAIN, Pool
from tasks.plan.fill import Fill, Where
from tasks.plan.loads import Candidate

PARTS: tuple[Part, ...] = ("weights", "projector", "kv", "compute", "overhead")


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that is cut over a set of cards: one resident model, or the slot of an on-demand group."""

    key: object
    where: Where
    size_bytes: int


def areas(fill: Fill, cuts: Iterable[Cut]) -> dict[object, dict[int, int]]:
    """Give everything that is cut its room on each card, small sets first: they can lie in fewer places."""
    free = {at: fill.free(at) for at in range(len(fill.whole))}
    made: dict[object, dict[int, int]] = {}
    for cut in sorted(cuts, key=lambda one: len(one.where)):
        given = _poured(cut.size_bytes, {at: free[at] for at in cut.where})
        for at, taken in given.items():
            free[at] -= taken
        made[cut.key] = given
    return made


def _poured(size: int, free: dict[int, int]) -> dict[int, int]:
    """Spread bytes over cards in proportion to what is free there."""
    total = sum(free.values())
    given = {at: size * room // total if total else 0 for at, room in free.items()}
    rest = size - sum(given.values())
    for at, room in free.items():
        more = min(rest, room - given[at])
        given[at] += more
        rest -= more
    return given


def cut_bytes(one: Candidate, need: Need) -> int:
    """Return what of a cut model is cut: all but what each card has of its own."""
    if one.memory_bytes is not None:
        return need.total_bytes
    return need.weights_bytes + need.projector_bytes + need.kv_bytes


def shares(
    one: Candidate, need: Need, *, pools: tuple[Pool, ...], room: Mapping[int, int]
) -> tuple[Share, ...]:
    """Return the part of a model that lies on each device; `room` is what a cut one may take of each."""
    where = one.place.pools
    names = [pools[at].name for at in where]
    if not one.place.on_gpu:
        return (Share(MAIN, need.total_bytes),)
    if len(where) == 1:
        return (Share(names[0], need.total_bytes),)
    cut = cut_bytes(one, need)
    if one.even:
        part = -(-cut // len(where))
        return tuple(Share(name, part + one.each) for name in names)
    layers = one.model.attention.layers if one.model.attention else 1
    counts = _layers(layers, -(-cut // layers), [room[at] for at in where])
    return tuple(
        Share(name, one.each + cut * count // layers, count)
        for name, count in zip(names, counts, strict=True)
    )


def _layers(layers: int, layer_bytes: int, room: list[int]) -> list[int]:
    """Cut a number of layers in proportion to the room, whole ones, and never more than there is room for.

    The search set a layer a card aside (loads.py), so the whole layers that fit are enough.
    """
    total = sum(room) or 1
    counts = [min(layers * size // total, size // layer_bytes if layer_bytes else layers) for size in room]
    for _ in range(layers - sum(counts)):
        left = [size - (count + 1) * layer_bytes for size, count in zip(room, counts, strict=True)]
        counts[left.index(max(left))] += 1
    return counts


def memory_of(pools: tuple[Pool, ...], models: tuple[PlannedModel, ...]) -> tuple[DeviceMemory, ...]:
    """Return each device's memory as the plan fills it."""
    made = tuple(_device(pool, models) for pool in pools)
    # Main memory that holds nothing would only make the cards look small beside it.
    return tuple(one for one in made if one.parts or one.device != MAIN or len(made) == 1)


def _device(pool: Pool, models: tuple[PlannedModel, ...]) -> DeviceMemory:
    parts: list[MemoryPart] = []
    resident, groups = 0, {"": 0}
    for model in models:
        for share in model.devices:
            if share.device != pool.name and not (pool.main and share.device == "cpu"):
                continue
            parts += _parts(model, share)
            if model.residency == "on-demand":
                groups[model.group] = max(groups.get(model.group, 0), share.memory_bytes)
            else:
                resident += share.memory_bytes
    return DeviceMemory(
        device=pool.name,
        name=pool.title,
        total_bytes=pool.total_bytes,
        reserved_bytes=pool.reserved_bytes,
        others_bytes=pool.others_bytes,
        margin_bytes=pool.margin_bytes,
        budget_bytes=pool.budget_bytes,
        used_bytes=resident + sum(groups.values()),
        parts=tuple(parts),
        unified=pool.main and pool.on_gpu,
    )


def _parts(model: PlannedModel, share: Share) -> list[MemoryPart]:
    """Cut a share into the parts of its model: what each card has in full, and the rest in proportion."""
    need = model.need
    if need is None or not need.total_bytes:
        return []
    sizes = {part: int(getattr(need, f"{part}_bytes")) for part in PARTS}
    if len(model.devices) > 1:
        cut = sizes["weights"] + sizes["projector"] + sizes["kv"]
        mine = max(0, share.memory_bytes - sizes["compute"] - sizes["overhead"])
        for part in ("weights", "projector", "kv"):
            sizes[part] = sizes[part] * mine // cut if cut else 0
        sizes["overhead"] = share.memory_bytes - sum(
            size for part, size in sizes.items() if part != "overhead"
        )
    return [MemoryPart(model.model, part, size, model.group) for part, size in sizes.items() if size > 0]
