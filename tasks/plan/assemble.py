"""The choices of a search become planned models, with all that a server of them needs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.contracts import PlannedModel, StoreView
from tasks.plan.candidates import Maker, Table
from tasks.plan.fill import Board, Fill, weight
from tasks.plan.layout import Cut, areas, shares
from tasks.plan.loads import Candidate
from tasks.plan.preference import Choice, Choices
from tasks.plan.request import port_of
from tasks.plan.servers import server_name, with_settings
from tasks.plan.speed import speed


def assemble(
    maker: Maker, tables: tuple[Table, ...], choices: Choices, *, board: Board, store: StoreView
) -> tuple[PlannedModel, ...]:
    """Return the planned models in the order of their roles; each server has one port, counted up."""
    fill = board.empty()
    for choice in choices:
        if choice.candidate is not None and choice.shares is None:
            fill = _added(fill, choice)
    made = _Assembler(maker, tables, choices, store, areas(fill, _cuts(choices, fill)))
    ports: dict[str, int] = {}
    models: list[PlannedModel] = []
    for role, choice in enumerate(choices):
        if choice.candidate is None or choice.shares is not None:
            continue
        one = _apart(made.model(role), models)
        if one.external:
            models.append(replace(one, port=port_of(one.external)))
            continue
        port = ports.setdefault(one.server, maker.request.first_port + len(ports))
        models.append(replace(one, port=port))
    return tuple(models)


def _apart(one: PlannedModel, others: Sequence[PlannedModel]) -> PlannedModel:
    """Give a model a server of its own where another role's server of its kind already has the same model."""
    if one.external or not any((one.server, one.model) == (other.server, other.model) for other in others):
        return one
    server = f"{one.server}-{one.role}"
    return replace(one, server=server, group=server if one.group else "")


def _cuts(choices: Choices, fill: Fill) -> Iterator[Cut]:
    """Yield all that is cut over cards: resident models by their role, groups by place and KV type."""
    for role, choice in enumerate(choices):
        one = choice.candidate
        if one is None or choice.shares is not None or one.place.waits:
            continue
        size = weight(one, choice.load)[1]
        if size:
            yield Cut(role, one.place.pools, size)
    for key, (_, size) in fill.groups:
        if size:
            yield Cut(key, key[0], size)


def _added(fill: Fill, choice: Choice) -> Fill:
    one = choice.candidate
    after = fill.add(one, choice.load, one.kv_types[choice.kv]) if one else fill
    if after is None:
        raise AssertionError("the search placed what does not fit")
    return after


def _served(planned: PlannedModel) -> PlannedModel:
    """Give a model its server, and the group that takes turns there."""
    server = server_name(planned)
    return replace(planned, server=server, group=server if planned.residency == "on-demand" else "")


@dataclass(frozen=True, slots=True)
class _Assembler:
    maker: Maker
    tables: tuple[Table, ...]
    choices: Choices
    store: StoreView
    areas: Mapping[object, Mapping[int, int]]

    def model(self, role: int) -> PlannedModel:
        """Return the model that a role's own server serves; its port is set later."""
        choice, wish = self.choices[role], self.tables[role].wish
        one = choice.candidate
        if one is None:
            raise AssertionError("a role without a server has no model")
        kind, pools = one.kv_types[choice.kv], self.maker.pools.pools
        parallel = self.maker.hosting.parallel(wish, one.runtime)
        need = self.maker.need(one, context=choice.tokens, kv_type=kind, parallel=parallel)
        room = self.areas.get((one.place.pools, kind) if one.place.waits else role, {})
        devices = shares(one, need, pools=pools, room=room)
        measured = self.maker.measured(one.model, one.variant, runtime=one.runtime, on_gpu=one.place.on_gpu)
        where = tuple(pools[at] for at in one.place.pools) if one.place.on_gpu else ()
        planned = PlannedModel(
            role=wish.role,
            model=one.model.name,
            runtime=one.runtime,
            residency=one.place.residency,
            device="+".join(share.device for share in devices),
            port=0,
            memory_bytes=sum(share.memory_bytes for share in devices),
            memory_measured=need.measured,
            download_bytes=self._missing(one),
            weights=one.variant.weights if one.runtime != "ollama" else None,
            dimensions=one.model.dimensions,
            max_tokens=one.model.max_tokens,
            quantisation=one.variant.name,
            ollama=one.variant.ollama if one.runtime == "ollama" else None,
            repo=one.variant.repo if one.runtime != "ollama" else None,
            also=tuple(
                self.tables[at].wish.role for at, other in enumerate(self.choices) if other.shares == role
            ),
            context=choice.tokens,
            kv_type=kind,
            parallel=parallel,
            external=self.maker.hosting.external(one.runtime),
            devices=devices,
            need=need,
            speed=speed(one.model, need, where, devices=self.maker.catalogue.devices, measured=measured),
        )
        return with_settings(_served(planned))

    def _missing(self, one: Candidate) -> int:
        size = one.variant.size_bytes(one.runtime)
        if one.runtime == "ollama" or one.variant.weights is None:
            return size
        return self.store.missing_bytes.get(self.store.key(one.model.name, one.variant.name), size)
