"""`make bench`: plans, cold and warm runs, the embedded server, proxies, rollouts, containers, pulls."""

from __future__ import annotations

from tests.benchmarks import embeddings, fronts, plans, proxies, pulls, rollouts, runs, servers


def main() -> None:
    """Run every benchmark, one after another."""
    plans.main()
    runs.main()
    embeddings.main()
    print()
    fronts.main()
    print()
    proxies.main()
    print()
    rollouts.main()
    print()
    servers.main()
    print()  # the tables of pulls have a head of their own
    pulls.main()


if __name__ == "__main__":
    main()
