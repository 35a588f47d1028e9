"""What the README shows of a plan is what the program prints."""

from __future__ import annotations

from flows.report_plan import Sheet, format_plan
from tasks import catalogue
from tasks.contracts import StoreView
from tasks.detect.example import from_example
from tasks.plan.choose import Request, make_plan
from tests.conftest import ROOT
from tests.lab.bundles import ALL_OFFERS

WIDTH = 118


def test_the_plan_in_the_readme_is_current() -> None:
    """Each line of it is printed by `COLUMNS=118 pmoves plan --as rtx-3090-ti`."""
    shelf = catalogue.load(catalogue.DEFAULT)
    facts = from_example(shelf.profiles["rtx-3090-ti"], host="rtx-3090-ti")
    plan = make_plan(
        facts, shelf, offers=ALL_OFFERS, store=StoreView("/store", {}), request=Request("rtx-3090-ti")
    )
    shown = (ROOT / "README.md").read_text().partition("<!-- plan -->")[2].partition("<!-- /plan -->")[0]
    lines = [line for line in shown.splitlines() if line and line[0] not in "`$…"]

    assert len(lines) > len(plan.decisions)
    assert set(lines) <= set(format_plan(plan, sheet=Sheet(WIDTH)).splitlines())
