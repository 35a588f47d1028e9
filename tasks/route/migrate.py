"""The gateway of earlier versions, which held the public port itself → a generation behind the proxy.

A gateway with the same config is started beside it first; then the old one ends and the proxy takes the port.
Nothing answers in between: that is some tenths of a second, once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import ProvisionError, RouteError, ServeError
from tasks.route.context import RouteContext
from tasks.route.gateways.contract import Instance
from tasks.route.generations import OLD_FILES, Proven, Store, generations, read_text
from tasks.route.proxy.contract import Target
from tasks.route.retire import running


def adopt(ctx: RouteContext) -> Iterator[str]:
    """Put the proxy before the config of an earlier version; yield what was done, in sentences.

    Raises:
        RouteError: the proxy does not take the port, which nobody has then.
    """
    text = read_text(ctx.folder / OLD_FILES[0])
    if ctx.old is not None and ctx.old.runs() and text is not None:
        instance = _beside(text, ctx)
        if instance is None:
            yield "the gateway of an earlier version serves until the switch; its config does not start anew"
            return
        take_port(Target(instance.generation, instance.port), ctx)
        yield "the proxy took the port from the gateway of an earlier version"
    if text is not None and generations(ctx.folder):
        for name in reversed(OLD_FILES):
            (ctx.folder / name).unlink(missing_ok=True)


def take_port(target: Target, ctx: RouteContext) -> None:
    """Point the proxy, and end what an earlier version left on its port right before.

    Raises:
        RouteError: see `Proxy.point`; the earlier version's gateway does not come back.
    """
    if ctx.old is None or not ctx.old.runs():
        ctx.proxy.point(target)
        return
    ctx.say("the gateway of an earlier version ends now and the proxy takes its port: a short pause")
    ctx.old.stop()
    try:
        ctx.proxy.point(target)
    except ProvisionError as error:
        intact = "the gateway of the earlier version is ended and no routes are served"
        raise type(error)(error.what, intact, error.then) from error


def _beside(text: str, ctx: RouteContext) -> Instance | None:
    """Return a gateway with the config of the earlier version; None where it does not start."""
    store, there = Store(ctx.folder), running(ctx)
    name = next((name for name, kept in generations(ctx.folder) if kept == text), "")
    if name in there:
        return there[name]
    name = name or store.name_for(text)
    try:
        ctx.gateways.prepare()
        if store.text(name) is None:
            store.write(name, text, "", lambda _: None)
        instance = ctx.gateways.start(store.generation(name), deadline_s=ctx.start_s)
    except (RouteError, ServeError):
        store.forget(name)
        return None
    store.prove(Proven(name))
    return instance
