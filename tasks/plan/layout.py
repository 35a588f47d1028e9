"""Where the bytes of a plan lie: the parts of cut models, and the memory of each device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.contracts import DeviceMemory, MemoryPart, Need, Part, PlannedModel, Share
from tasks.plan.budget import MAIN, Pool
from tasks.plan.fill import Fill, Where
from tasks.plan.loads import Candidate

PARTS: tuple[Part, ...] = ("weights", "projector", "kv", "compute", "overhead")


@dataclass(frozen=True, slots=True)
class Area:
    """How many bytes of each card are set aside for the models that are cut over one set of cards."""

    bytes_of: Mapping[int, int]


def areas(fill: Fill) -> dict[tuple[Where, str], Area]:
    """Give every set of cards its room, small sets first: they can lie in fewer places.

    The key is the set and the group's KV type, or "" for what is resident.
    """
    wanted = [((where, ""), size) for where, size in fill.cut]
    wanted += [((where, str(kind)), size) for (where, kind), (_, size) in fill.groups if size]
    free = {at: fill.free(at) for at in range(len(fill.whole))}
    made: dict[tuple[Where, str], Area] = {}
    for key, size in sorted(wanted, key=lambda item: (len(item[0][0]), item[0])):
        given = _poured(size, {at: free[at] for at in key[0]})
        for at, taken in given.items():
            free[at] -= taken
        made[key] = Area(given)
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


def shares(
    one: Candidate,
    need: Need,
    *,
    pools: tuple[Pool, ...],
    areas_of: Mapping[tuple[Where, str], Area],
    kv_type: str,
) -> tuple[Share, ...]:
    """Return the part of a model that lies on each device."""
    where = one.place.pools
    names = [pools[at].name for at in where]
    if not one.place.on_gpu:
        return (Share("cpu", need.total_bytes),)
    if len(where) == 1:
        return (Share(names[0], need.total_bytes),)
    cut = need.weights_bytes + need.projector_bytes + need.kv_bytes
    if one.even:
        part = -(-cut // len(where))
        return tuple(Share(name, part + one.each) for name in names)
    area = areas_of[where, kv_type if one.place.waits else ""]
    layers = one.model.attention.layers if one.model.attention else 1
    counts = _layers(layers, [area.bytes_of[at] for at in where])
    return tuple(
        Share(name, one.each + cut * count // layers, count)
        for name, count in zip(names, counts, strict=True)
    )


def _layers(layers: int, room: list[int]) -> list[int]:
    """Cut a number of layers in proportion to the room: largest remainders first."""
    total = sum(room) or 1
    exact = [layers * size / total for size in room]
    counts = [int(one) for one in exact]
    order = sorted(range(len(room)), key=lambda at: (counts[at] - exact[at], at))
    for at in order[: layers - sum(counts)]:
        counts[at] += 1
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
