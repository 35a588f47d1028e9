"""What the gateway's proxy counted, as Prometheus reads text. Pure.

`tensorzero_model_requests_total` does not exist, and the gateway's own counters know no tier and no outcome:
a request is counted where its answer passes, in the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flows.report_routes import RoutesNow
from tasks.route.proxy.contract import Count

Labels = Mapping[str, str]
Sample = tuple[Labels, int]
REQUESTS = "Requests since the proxy started, of the last 25 hours at most."
LIVE = "Whether a tier could answer: its server is up, or its key is there."
UP = "Whether the proxy sends to the gateway of the last good run."


def format_metrics(found: RoutesNow, counts: Iterable[Count]) -> str:
    """Write how many requests which tier answered, as Prometheus reads text.

    A gauge and no counter: the proxy forgets what is older than 25 hours, so the figures also fall.
    """
    tiers = {
        (one.function, tier.name): tier.tier
        for one in found.functions
        for tier in (*one.tiers, *one.complex_tiers)
    }
    sums: dict[tuple[str, str, str, str], int] = {}
    for one in counts:
        tier = tiers.get((one.function, one.variant), "")
        key = (one.function, one.variant, tier, str(one.status))
        sums[key] = sums.get(key, 0) + one.requests
    names = ("function", "variant", "tier", "status")
    requests: list[Sample] = [
        (dict(zip(names, key, strict=True)), value) for key, value in sorted(sums.items())
    ]
    live: list[Sample] = [
        ({"function": one.function, "variant": tier.name, "tier": tier.tier}, int(tier.live))
        for one in found.functions
        for tier in {tier.name: tier for tier in (*one.tiers, *one.complex_tiers)}.values()
    ]
    info = {"generation": found.active, "config_hash": found.config_hash, "proxy": found.proxy}
    lines = [
        *_metric("requests_day", REQUESTS, requests),
        *_metric("tier_live", LIVE, live),
        *_metric("up", UP, [(info, int(found.serving))]),
    ]
    return "\n".join(lines)


def _metric(name: str, what: str, samples: Sequence[Sample]) -> list[str]:
    whole = f"pmoves_gateway_{name}"
    rows = [f"{whole}{{{_labels(labels)}}} {value}" for labels, value in samples]
    return [f"# HELP {whole} {what}", f"# TYPE {whole} gauge", *rows]


def _labels(labels: Labels) -> str:
    return ",".join(f"{key}={_quoted(text)}" for key, text in labels.items())


def _quoted(text: str) -> str:
    """Write the value of a label: a backslash, a quote and a line break are the three that break out."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{safe}"'
