"""What a rollout costs and loses under load, and what proxy and gateway add. Prints tables, asserts nothing.

python -m tests.benchmarks.rollouts [--quick]

Everything is real but the model server: supervisord, the TensorZero wheel, HAProxy where it is installed and
the front where it is not. The model server says in each answer which config asked it. All share this
machine's processors.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flows.report import columns
from tasks.contracts import PlannedRoute, Route, RouteTier
from tasks.effects.http import Httpx
from tasks.effects.supervisord import Supervisord
from tasks.errors import ProvisionError
from tasks.route.compose import compose
from tasks.route.context import Order, RouteContext
from tasks.route.gateways.process import WheelGateways
from tasks.route.proxy.choose import choose
from tasks.route.proxy.contract import Door
from tasks.route.proxy.haproxy_starter import found
from tasks.route.rollout import roll_out
from tasks.route.validate import validate
from tests.lab.environment import free_port
from tests.lab.load import Load, Report
from tests.lab.quick_model import QuickModel
from tests.lab.verified import verified_server

CHAT = "tensorzero::function_name::f0"
PER_S = 200.0


def order(model: QuickModel, max_tokens: int, functions: int = 1) -> Order:
    """Return functions on one model; the first caps its answers, which tells configs apart."""
    local = (RouteTier("local", "local", "m"),)
    server = verified_server("m", base_url=model.base_url, role="llm", runtime="llama.cpp")
    routes = tuple(
        PlannedRoute(f"f{number}", f"service-{number}", "llm", "a benchmark", local, max_tokens=max_tokens)
        for number in range(functions)
    )
    return Order((server,), routes)


@contextlib.contextmanager
def host(*, haproxy: bool, watch_s: float) -> Iterator[RouteContext]:
    """Yield what a rollout needs, in a state folder of its own; everything is ended afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Httpx()) as http:
        state, door = Path(folder), Door(free_port())
        supervisor = Supervisord(state)
        binary = found() if haproxy else None
        proxy = choose(door, state / "gateway" / "proxy", supervisor, sys.executable, haproxy=binary)
        try:
            yield RouteContext(
                proxy=proxy,
                gateways=WheelGateways(supervisor, http, sys.executable),
                http=http,
                folder=state / "gateway",
                door=door,
                watch_s=watch_s,
            )
        finally:
            supervisor.shutdown()


def quantiles(seconds: list[float]) -> tuple[str, str]:
    """Write median and 99th percentile."""
    high = statistics.quantiles(seconds, n=100)[98]
    return f"{1000 * statistics.median(seconds):.2f} ms", f"{1000 * high:.2f} ms"


def added(seconds: float) -> str:
    """Measure whole answers at a low rate: the server itself, and through gateway and proxy."""
    rows = []
    with QuickModel() as model:
        bare = Load(f"{model.base_url}/chat/completions", "m", per_s=50, seconds=seconds, streams=0).start()
        rows.append(("the model server itself", *quantiles(bare.report().seconds)))
        for haproxy in (True, False):
            with host(haproxy=haproxy, watch_s=0) as ctx:
                route = roll_out(order(model, 1), ctx)
                urls = [(f"{route.proxy} and gateway", f"{ctx.base_url}/chat/completions")]
                if haproxy:
                    inner = ctx.gateways.instances()[0].base_url
                    urls.insert(0, ("the gateway alone", f"{inner}/chat/completions"))
                for name, url in urls:
                    report = Load(url, CHAT, per_s=50, seconds=seconds, streams=0).start().report()
                    rows.append((name, *quantiles(report.seconds)))
    return columns(("WHOLE ANSWERS, 50/S", "P50", "P99"), rows)


def under_load(seconds: float, *, haproxy: bool) -> tuple[tuple[str, ...], Report]:
    """Roll out, try a config that no server answers rightly, and roll back, while clients ask."""
    with QuickModel() as model, host(haproxy=haproxy, watch_s=min(5.0, seconds / 8)) as ctx:
        first = roll_out(order(model, 100), ctx)
        load = Load(f"{ctx.base_url}/chat/completions", CHAT, per_s=PER_S, seconds=seconds).start()
        time.sleep(seconds / 6)
        second, rollout_s = timed(order(model, 200), ctx)
        refused, _ = timed(wrong(model), ctx)
        back, rollback_s = timed(replace(order(model, 100), text=first.config), ctx)
        report = load.report()
        local = sum(one.requests for one in ctx.proxy.counts() if one.variant == "local")
        row = (
            first.proxy, f"{report.asked}", f"{report.asked - report.answered}",
            ", ".join(f"{text}: {count}" for text, count in sorted(report.texts.items())),
            f"{local}", f"{rollout_s:.1f} s", f"{rollback_s:.1f} s", *quantiles(report.seconds),
        )  # fmt: skip
        if not (second and back and refused is None):
            raise RuntimeError("a rollout did not end as it should")
        return row, report


def wrong(model: QuickModel) -> Order:
    """Return a config that the smoke refuses: its function is led to nobody."""
    made = order(model, 300)
    gone = verified_server(
        "m", base_url=f"http://127.0.0.1:{free_port()}/v1", role="llm", runtime="llama.cpp"
    )
    return replace(made, verified=(gone,))


def timed(wanted: Order, ctx: RouteContext) -> tuple[Route | None, float]:
    """Roll out; return the route, None where it was refused, and the seconds."""
    begun = time.monotonic()
    try:
        return roll_out(wanted, ctx), time.monotonic() - begun
    except ProvisionError:
        return None, time.monotonic() - begun


def composed(functions: int, times: int) -> str:
    """Measure render, merge and lint, and then the load in TensorZero, of a config with many functions."""
    taken, loads = [], []
    with QuickModel() as model, host(haproxy=False, watch_s=0) as ctx:
        ctx.folder.mkdir(parents=True, exist_ok=True)
        path = ctx.folder / "bench.toml"
        for _ in range(times):
            begun = time.perf_counter()
            wanted = compose(order(model, 100, functions), "", ctx)
            between = time.perf_counter()
            path.write_text(wanted.text)
            validate(path)
            taken.append(between - begun)
            loads.append(time.perf_counter() - between)
    row = (
        f"{functions} functions", f"{1000 * statistics.median(taken):.0f} ms",
        f"{1000 * statistics.median(loads):.0f} ms",
    )  # fmt: skip
    return columns(("A CONFIG", "RENDER, MERGE, LINT", "LOAD IN TENSORZERO, A PROCESS OF ITS OWN"), [row])


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rollouts")
    parser.add_argument("--quick", action="store_true", help="few requests: a smoke check")
    quick = parser.parse_args(arguments).quick
    print(f"ROLLOUTS; Python {platform.python_version()}, {os.cpu_count()} processors\n")
    print(composed(12, 2 if quick else 5), flush=True)
    print(f"\n{added(4 if quick else 20)}", flush=True)
    rows = [under_load(30 if quick else 60, haproxy=haproxy)[0] for haproxy in (True, False)]
    head = (
        f"PROXY, {PER_S:.0f}/S, 1 IN 4 A STREAM", "ASKED", "LOST", "ANSWERS BY CONFIG", "LOCAL", "ROLLOUT",
        "ROLLBACK", "P50", "P99",
    )  # fmt: skip
    print(f"\n{columns(head, rows)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
