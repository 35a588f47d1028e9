"""`make bench`: planning, the cold and the warm run, the embedded server and pulls beside their peers."""

from __future__ import annotations

from tests.benchmarks import embeddings, plans, pulls, runs


def main() -> None:
    """Run every benchmark, one after another."""
    plans.main()
    runs.main()
    embeddings.main()
    print()  # the tables of pulls have a head of their own
    pulls.main()


if __name__ == "__main__":
    main()
