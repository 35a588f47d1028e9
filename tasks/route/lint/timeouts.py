"""Time-outs that end something else than what they stand at."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.route.lint.look import Hit, Look, Place, Table, entries, number, table, words
from tasks.route.merge.managed import dotted

GLOBAL_MS = 900_000
"""What TensorZero waits for any answer where gateway.global_outbound_http_timeout_ms is not set."""

KINDS: tuple[Place, ...] = (
    ("timeouts", "non_streaming", "total_ms"),
    ("timeouts", "streaming", "ttft_ms"),
    ("timeouts", "streaming", "total_ms"),
    ("timeout_ms",),
)
READ = "global_outbound_http_intra_stream_read_timeout_ms"


def above_parent(look: Look) -> Iterator[Hit]:
    """Find time-outs that never come, because what they are part of ends before."""
    for place, model in look.models():
        for where, provider in entries(model, "providers", before=place):
            yield from _above(provider, where, model, place)
    for place, variant in look.variants():
        model = look.model_of(variant)
        name = ("models", str(variant.get("model")))
        yield from _above(model, name, variant, place)
        for where, provider in entries(model, "providers", before=name):
            yield from _above(provider, where, variant, place)


def above_global(look: Look) -> Iterator[Hit]:
    """Find time-outs of embedding models above the global one. For other models TensorZero refuses that."""
    most = number(look.config, "gateway", "global_outbound_http_timeout_ms") or GLOBAL_MS
    embedding = "embedding_models"
    for place, one in (*look.models(embedding), *look.providers(embedding)):
        own = number(one, "timeout_ms")
        if own is not None and own > most:
            what = f"it waits {own} ms, but the gateway gives up after {most} ms in any case"
            yield Hit((*place, "timeout_ms"), what, f"set at most {most}")


def caps_routing(look: Look) -> Iterator[Hit]:
    """Find time-outs of models that end before the next of their providers is asked."""
    for place, model in look.models():
        routing = words(model, "routing")
        for kind in KINDS:
            most = number(model, *kind)
            if most is None:
                continue
            spent = [number(table(model, "providers", name), *kind) for name in routing[:-1]]
            known = [one for one in spent if one is not None]
            if spent and (len(known) < len(spent) or sum(known) >= most):
                what = (
                    f"the {most} ms are for all providers together, so {routing[-1]} is not asked "
                    "when one before it hangs"
                )
                yield Hit((*place, *kind), what, "set the time-outs of the providers, and none of the model")


def read_below_total(look: Look) -> Iterator[Hit]:
    """Find a time-out between two bytes that also ends answers which come in one piece."""
    most = number(look.config, "gateway", READ)
    if most is None:
        return
    totals = [number(one, *KINDS[0]) or 0 for _, one in (*look.providers(), *look.models(), *look.variants())]
    if max(totals, default=0) > most:
        what = f"it also ends each answer that takes {most} ms to begin, and {max(totals)} ms are allowed"
        yield Hit(("gateway", READ), what, f"set at least {max(totals)}")


def _above(inner: Table, where: Place, outer: Table, place: Place) -> Iterator[Hit]:
    for kind in KINDS:
        own, most = number(inner, *kind), number(outer, *kind)
        if own is not None and most is not None and own > most:
            what = f"it waits {own} ms, but {dotted(place)} gives up after {most} ms"
            yield Hit((*where, *kind), what, f"set at most {most} there, or more in {dotted(place)}")
