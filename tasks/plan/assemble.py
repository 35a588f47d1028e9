"""The choices of a search become planned models, with all that a server of them needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.contracts import PlannedModel, StoreView
from tasks.plan.candidates import Maker, Table
from tasks.plan.fill import Board, Fill, Where
from tasks.plan.layout import Area, areas, shares
from tasks.plan.loads import Candidate
from tasks.plan.preference import Choice, Choices
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
    made = _Assembler(maker, tables, choices, store, areas(fill))
    ports: dict[str, int] = {}
    models = []
    for role, choice in enumerate(choices):
        if choice.candidate is None or choice.shares is not None:
            continue
        one = made.model(role)
        port = ports.setdefault(one.server, maker.request.first_port + len(ports))
        models.append(replace(one, port=port))
    return tuple(models)


def _added(fill: Fill, choice: Choice) -> Fill:
    one = choice.candidate
    after = fill.add(one, choice.load, one.kv_types[choice.kv]) if one else fill
    if after is None:
        raise AssertionError("the search placed what does not fit")
    return after


@dataclass(frozen=True, slots=True)
class _Assembler:
    maker: Maker
    tables: tuple[Table, ...]
    choices: Choices
    store: StoreView
    areas: Mapping[tuple[Where, str], Area]

    def model(self, role: int) -> PlannedModel:
        """Return the model that a role's own server serves; its port is set later."""
        choice, wish = self.choices[role], self.tables[role].wish
        one = choice.candidate
        if one is None:
            raise AssertionError("a role without a server has no model")
        kind, pools = one.kv_types[choice.kv], self.maker.pools.pools
        need = self.maker.need(one, context=choice.tokens, kv_type=kind, parallel=wish.parallel)
        devices = shares(one, need, pools=pools, areas_of=self.areas, kv_type=kind)
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
            parallel=wish.parallel,
            devices=devices,
            need=need,
            speed=speed(one.model, need, where, devices=self.maker.catalogue.devices, measured=measured),
        )
        server = server_name(planned)
        group = server if planned.residency == "on-demand" else ""
        return with_settings(replace(planned, server=server, group=group))

    def _missing(self, one: Candidate) -> int:
        size = one.variant.size_bytes(one.runtime)
        if one.runtime == "ollama" or one.variant.weights is None:
            return size
        return self.store.missing_bytes.get(self.store.key(one.model.name, one.variant.name), size)
