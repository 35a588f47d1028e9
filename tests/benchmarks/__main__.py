"""`make bench`: planning, the cold and the warm run, and the embedded server beside its library."""

from __future__ import annotations

from tests.benchmarks import embeddings, plans, runs


def main() -> None:
    """Run every benchmark, one after another."""
    plans.main()
    runs.main()
    embeddings.main()


if __name__ == "__main__":
    main()
