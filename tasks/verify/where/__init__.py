"""Where a model lies, compared with where the plan has it. One row a way of finding out, in order.

A row is for the runtimes that it names; the first row that knows what a model holds says so, and every row
may find it in the wrong place. What cannot be seen is a finding, never a failure: a Jetson's driver does not
tell what a process holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.contracts import RuntimeName
from tasks.verify.where import llama_cpp, ollama, processes
from tasks.verify.where.look import Look, Placed


@dataclass(frozen=True, slots=True)
class Row:
    """A way of finding out, and for which runtimes; none named means for all that are not named elsewhere."""

    look: Callable[[Look], Placed]
    runtimes: frozenset[RuntimeName]


ROWS: tuple[Row, ...] = (
    Row(ollama.look, frozenset({"ollama"})),
    Row(llama_cpp.look, frozenset({"llama.cpp"})),
    Row(processes.look, frozenset({"llama.cpp", "tei", "vllm", "speaches"})),
    Row(processes.own, frozenset({"embedded"})),
    Row(processes.foreign, frozenset({"external"})),
)


def placed(look: Look) -> Placed:
    """Return where the model lies, by all rows that are for its runtime."""
    found = [row.look(look) for row in ROWS if look.planned.runtime in row.runtimes]
    holding = next((one for one in found if one.held), found[0])
    return Placed(
        holding.memory_bytes,
        holding.held,
        next((one.wrong for one in found if one.wrong), ""),
        tuple(dict.fromkeys(finding for one in found for finding in one.findings)),
    )
