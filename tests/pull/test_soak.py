"""A short soak of the pull, and the quick mode of its benchmark."""

from __future__ import annotations

import pytest

from tests.benchmarks import pulls
from tests.soak.__main__ import report, run

pytestmark = pytest.mark.real


def test_soak() -> None:
    """A few random bundles come whole under random trouble, kills and stops; nothing wrong is ever seen."""
    tally = run(seed=4, seconds=10.0, most=4)

    assert tally.rounds >= 1
    assert "trouble: " in report(tally)


def test_quick_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """The quick benchmark of pulls prints every table, and no client fails in it."""
    pulls.main(["--quick"])

    printed = capsys.readouterr().out
    heads = ("OF CURL", "OF HF", "IN EXCESS", "OF BYTES/BANDWIDTH", "store.missing", "HASHLIB")
    assert [head for head in heads if head not in printed] == []
    assert "exit " not in printed
