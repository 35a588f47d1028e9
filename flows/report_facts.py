"""What was seen of a host, as rows and lines. Pure."""

from __future__ import annotations

from flows.report import Rows, answering, columns, known, size
from tasks.contracts import Accelerator, Cpu, EngineGpu, HostFacts, Jetson, Memory, Unknown
from tasks.wording import gib


def fact_rows(facts: HostFacts) -> Rows:
    """Return what was seen, a row a fact."""
    cpu, flags = facts.cpu, " ".join(facts.cpu.flags)
    return [
        ("host", facts.host),
        ("system", f"{known(facts.system.os)}, kernel {facts.system.kernel}, {facts.system.architecture}"),
        ("runs in", " in ".join(reversed(facts.system.layers)) or "nothing: on the bare machine"),
        ("python", facts.system.python),
        (
            "cpu",
            (
                f"{known(cpu.model)} ({known(cpu.vendor)}), {known(cpu.physical_cores)} cores,"
                f" {flags}{cpu_more(cpu)}"
            ),
        ),
        ("memory", memory_line(facts.memory)),
        *(
            (
                f"disk of the {one.purpose}",
                (
                    f"{gib(one.free_bytes)} free of {gib(one.total_bytes)},"
                    f" {one.filesystem} at {one.mount} ({one.path}), {one.speed} disk"
                ),
            )
            for one in facts.disks
        ),
        *(("accelerator", text) for text in accelerator_lines(facts)),
        ("board", known(facts.board)),
        *jetson_rows(facts.jetson),
        ("container engine", answering(facts.container_engine)),
        ("GPU in containers", engine_gpu_line(facts.engine_gpu)),
        *(("proxy", f"{one.variable} is {one.address}") for one in facts.proxies),
        ("Hugging Face Hub", answering(facts.hub)),
        ("Ollama library", answering(facts.ollama_library)),
        ("Ollama on this host", answering(facts.ollama)),
    ]


def accelerator_lines(facts: HostFacts) -> tuple[str, ...]:
    """Return a line a device, or one that says there is none or why it is not known."""
    if isinstance(facts.accelerators, Unknown):
        return (known(facts.accelerators),)
    return tuple(accelerator_line(one) for one in facts.accelerators) or (
        "none: no accelerator's driver is loaded",
    )


def accelerator_line(one: Accelerator) -> str:
    """Return one device: its memory, what it computes with, and where it sits."""
    memory = size(one.memory_total_bytes)
    if one.unified:
        memory += f" shared with main memory, {size(one.memory_free_bytes)} to use"
    where = f", bus {one.bus_id}" if isinstance(one.bus_id, str) else ""
    cut = f", a slice of {one.slice_of}" if one.slice_of else where
    runtime = f", {one.runtime}" if isinstance(one.runtime, str) else ""
    compute = f"compute {known(one.compute_capability)}, driver {known(one.driver)}"
    return f"{one.name}, {memory}, {compute}{runtime}{cut}"


def cpu_more(cpu: Cpu) -> str:
    """Return what limits or divides the processor, if anything does."""
    nodes = f", {cpu.numa_nodes} NUMA nodes" if cpu.numa_nodes > 1 else ""
    return nodes + ("" if cpu.quota_cores is None else f", {cpu.quota_cores:g} cores allowed")


def memory_line(memory: Memory) -> str:
    """Return main memory, its limit and its swap."""
    limit = (
        "" if memory.limit_bytes is None else f", limited by the control group to {gib(memory.limit_bytes)}"
    )
    swap = f", {gib(memory.swap_total_bytes)} swap" if memory.swap_total_bytes else ", no swap"
    return f"{size(memory.total_bytes)}, {size(memory.available_bytes)} available{limit}{swap}"


def jetson_rows(jetson: Jetson | None) -> Rows:
    """Return a Jetson's software, or no row on another host."""
    if jetson is None:
        return ()
    software = f"L4T {known(jetson.l4t)}, JetPack {known(jetson.jetpack)}"
    return (("jetson", f"{jetson.chip}, module {known(jetson.module)}, {software}"),)


def engine_gpu_line(gpu: EngineGpu) -> str:
    """Return how a container gets a GPU, or why it gets none."""
    return f"{gpu.style}: {gpu.why}"


def format_facts(facts: HostFacts) -> str:
    """Write what was seen of a host."""
    return columns(("WHAT", "SEEN"), fact_rows(facts))
