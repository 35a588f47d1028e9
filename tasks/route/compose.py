"""An order → the whole config that is to serve, and all that goes with it; nothing in use is touched.

render ── merge with the hand-written file ── lint ─┐
the config of an earlier record ─────────────────────┴→ Wanted
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.contracts import PlannedRoute, VerifiedServer
from tasks.errors import RouteError
from tasks.route.config.render import api_base, key_names, render, served
from tasks.route.context import INTACT, Order, RouteContext
from tasks.route.generations import Store, digest, generations
from tasks.route.lint.check import lint, refuse
from tasks.route.merge.keys import read_environment
from tasks.route.merge.managed import diff, merge, parse, read_hand, top_tables, unmerge
from tasks.route.merge.pmoves_env import pmoves_env
from tasks.route.merge.services_file import ServicesFile, Values
from tasks.route.merge.templates import copy_named_files
from tasks.route.probe import Ask, asks


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in use.

    `source` is the folder that the config's paths begin in, `hand` the operator's file as it was read.
    """

    text: str
    keys: str = field(repr=False)
    diff: str
    environment: Values
    asks: tuple[Ask, ...]
    source: Path | None
    hand: str | None
    routes: tuple[PlannedRoute, ...] = ()

    @property
    def config_hash(self) -> str:
        """The sha256 of the config."""
        return digest(self.text)

    def copy_files(self, folder: Path) -> None:
        """Put the files that the config names beside it."""
        if self.source is not None:
            copy_named_files(parse(self.text), self.source, folder)

    def same_keys(self, path: Path) -> bool:
        """Whether a file holds these very keys."""
        try:
            return hmac.compare_digest(path.read_bytes(), self.keys.encode())
        except FileNotFoundError:
            return False


def compose(order: Order, before: str, ctx: RouteContext) -> Wanted:
    """Return what is to be in use, where `before` is; what cannot be is refused.

    Raises:
        RouteError: a file of the operator is wrong or clashes with ours, a key is, or the config has a fault
            that TensorZero would not notice.
    """
    routes = served(order.routes, order.verified, order.routing)
    hand = read_hand(ctx.hand) if ctx.hand is not None and order.text is None else None
    if order.text is None:
        text, source = _rendered(order, hand or "", before, ctx), ctx.hand.parent if ctx.hand else None
    else:
        text, source = order.text, _home(order.text, ctx)
        _refuse_gone(text, order.verified)
    keys = ctx.environment(text, key_names(order.routes, order.routing))
    _lint(text, keys, ctx)
    values = pmoves_env(order.verified, routes, ctx.base_url)
    ServicesFile(ctx.env_file).merged(values)
    return Wanted(
        text=text,
        keys=keys,
        diff=diff(before, text),
        environment=values,
        asks=asks(order.routes if order.text else routes, order.verified),
        source=source,
        hand=hand,
        routes=routes,
    )


def refuse_changed(wanted: Wanted, ctx: RouteContext) -> None:
    """Refuse to go on where the operator's file is no longer as it was read.

    Raises:
        RouteError: it changed.
    """
    if ctx.hand is not None and wanted.hand is not None and read_hand(ctx.hand) != wanted.hand:
        what = f"{ctx.hand} changed while it was merged"
        raise RouteError(what, INTACT, "start the run again when it is complete")


def _rendered(order: Order, hand: str, before: str, ctx: RouteContext) -> str:
    name = str(ctx.hand) if ctx.hand else "the hand-written part"
    ours = render(
        order.routes,
        order.verified,
        order.routing,
        before=before,
        skip=top_tables(hand, name=name),
        observed=ctx.database is not None,
    )
    return merge(hand, ours, name=name)


def _home(text: str, ctx: RouteContext) -> Path | None:
    """Return where the files lie that an earlier config names: its generation, or the operator's folder."""
    for name, kept in generations(ctx.folder):
        if kept == text:
            return Store(ctx.folder).generation(name).folder
    return ctx.hand.parent if ctx.hand else None


def _lint(text: str, keys: str, ctx: RouteContext) -> None:
    config = parse(text)
    findings = lint(config, ours=_ours(text), environment=read_environment(keys))
    for one in findings:
        if one.severity == "warning":
            ctx.say(f"{one}")
    try:
        refuse(findings, "the config")
    except RouteError as error:
        kept = Store(ctx.folder).reject_text(text)
        raise type(error)(error.what, INTACT, f"read {kept}, then {error.then}") from error


def _ours(text: str) -> dict[str, Any]:
    """Return what of a config is not in its hand-written part; all of one that has no block of ours."""
    by_hand = unmerge(text)
    config, hand = parse(text), parse("" if by_hand == text else by_hand)
    ours = {}
    for table, entries in config.items():
        theirs = hand.get(table)
        if theirs is None:
            ours[table] = entries
        elif isinstance(theirs, dict) and (added := {k: entries[k] for k in entries if k not in theirs}):
            ours[table] = added
    return ours


def _refuse_gone(text: str, verified: tuple[VerifiedServer, ...]) -> None:
    """Refuse an earlier config whose servers are not there any more, as far as it was made by us."""
    there = {api_base(one.server.base_url).rstrip("/") for one in verified}
    for model, address in _addresses(_ours(text)):
        if _local(address, there) and api_base(address).rstrip("/") not in there:
            raise RouteError(
                f"the earlier config has {model} at {address}, and no verified server is there now",
                INTACT,
                "roll back to another record, or provision with the profile of that time",
            )


def _addresses(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for table in ("models", "embedding_models"):
        for name, model in config.get(table, {}).items():
            for provider in model.get("providers", {}).values():
                if isinstance(address := provider.get("api_base"), str):
                    yield name, address


def _local(address: str, there: set[str]) -> bool:
    """Whether an address is on this host, or on one that serves models for it."""
    host = urlsplit(address).hostname or ""
    if host in {"localhost", "host.docker.internal"} | {urlsplit(one).hostname for one in there}:
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host
