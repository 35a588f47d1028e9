"""What a run that was killed left behind, cleared away by the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from tasks.contracts import ContainerState
from tasks.effects.containers import EngineError
from tasks.effects.containers.engine import Engine
from tasks.serve.ledger import BEFORE, NEXT, container_name

Mend = Callable[[str, int], None]


def sweep(
    engine: Engine, listed: Iterable[ContainerState], *, mend: Mend = lambda _server, _port: None
) -> tuple[str, ...]:
    """Remove what a run that was killed left behind; return the names. A server's own container stays.

    A run that was killed between its two renames left no container of the plain name: the old one gets it
    back. One that was killed after them may have left a front that still leads to the old one.

    Args:
        engine: whose containers they are.
        listed: all of them.
        mend: lets the port of a server lead to the port of a container.
    """
    found = {one.name: one for one in listed}
    removed: list[str] = []
    for name, one in sorted(found.items()):
        plain = container_name(one.server)
        own = found.get(plain)
        if not one.server or name not in {plain + NEXT, plain + BEFORE}:
            continue
        if name == plain + BEFORE and one.running and own is not None and not own.running:
            engine.remove(own.id)
            removed.append(plain)
            own = None
        if name == plain + BEFORE and own is None:
            with contextlib.suppress(EngineError):
                engine.rename(one.id, plain)
            continue
        if own is not None and own.running:
            mend(one.server, own.published)
        engine.remove(one.id)
        removed.append(name)
    return tuple(removed)
