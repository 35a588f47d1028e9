"""A rollout that ended well, in a run that failed after it → the config and the gateway of before.

The model servers of before are to be back when this is called: the config of before leads to them.
"""

from __future__ import annotations

from tasks.errors import RouteError
from tasks.route.config.render import key_names
from tasks.route.context import Order, RouteContext
from tasks.route.generations import Store
from tasks.route.undo import Undo, go_back


def revert(undo: Undo, order: Order, ctx: RouteContext) -> str:
    """Give the requests back to the config of before; return, in one clause, what serves now.

    Args:
        undo: What the rollout left in its context.
        order: What was ordered; it knows which keys a config names.
        ctx: What routing needs from outside, of a run that nobody stops any more.
    """
    store, blue = Store(ctx.folder), undo.before.blue
    if blue is not None and not store.keys(blue.generation).exists():
        names = key_names(order.routes, order.routing)
        try:
            store.give_keys(blue.generation, ctx.environment(store.text(blue.generation) or "", names))
        except RouteError as error:
            return f"the new config serves, because the one before cannot be started again ({error.what})"
    return go_back(undo.green, None, undo.before, ctx).intact
