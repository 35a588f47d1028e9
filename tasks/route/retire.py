"""How a gateway ends: after its last request, and never while new ones go there."""

from __future__ import annotations

import math

from tasks.errors import ProvisionError, RouteError
from tasks.route.context import RouteContext
from tasks.route.gateways.contract import Instance
from tasks.route.proxy.contract import Target

SLICE_S = 5.0
"""How long a run that is asked to stop may not notice it."""
BACK_S = 15.0
"""The longest wait for the last requests at a gateway that was given up: a run that was stopped has little
time to undo what it did. Chosen."""


def running(ctx: RouteContext) -> dict[str, Instance]:
    """Return the gateways that run, by generation."""
    return {one.generation: one for one in ctx.gateways.instances() if one.running}


def drain(instance: Instance, ctx: RouteContext) -> None:
    """Wait, within a bound, for the last request at a gateway that gets no new ones.

    Raises:
        RouteError: the proxy does not tell.
        StoppedError: the run was asked to stop.
    """
    target, slices = Target(instance.generation, instance.port), math.ceil(ctx.drain_s / SLICE_S)
    for number in range(slices):
        if ctx.proxy.drained(target, min(SLICE_S, ctx.drain_s)):
            return
        if not number:
            ctx.say(f"waiting for the last requests at {target.name}, {ctx.drain_s:g} s at most")
        ctx.refuse_stopped()
    ctx.say(f"requests at {target.name} still go on after {ctx.drain_s:g} s and are cut off")


def retire(instance: Instance, ctx: RouteContext, *, drained: bool = False) -> bool:
    """End a gateway that gets no new requests; return whether that came true, and say why not."""
    name = instance.generation
    try:
        if instance.running and not drained:
            _drain_a_little(instance, ctx)
        ctx.gateways.stop(name)
    except ProvisionError as error:
        ctx.say(f"the gateway of {name} is still there: {error.what}")
        return False
    return True


def _drain_a_little(instance: Instance, ctx: RouteContext) -> None:
    target, active = Target(instance.generation, instance.port), ctx.proxy.active()
    if active is not None and active.name == target.name:
        return
    try:
        ctx.proxy.drained(target, min(BACK_S, ctx.drain_s))
    except RouteError as error:
        ctx.say(f"nobody tells whether requests at {target.name} go on: {error.what}")
