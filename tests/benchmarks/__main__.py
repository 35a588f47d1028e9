"""`make bench`: the cold and the warm run, the planner, and the embedded server beside its library."""

from __future__ import annotations

from tests.benchmarks import embeddings, runs


def main() -> None:
    """Run every benchmark, one after another."""
    runs.main()
    embeddings.main()


if __name__ == "__main__":
    main()
