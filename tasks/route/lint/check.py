"""What TensorZero 2026.6.0 loads without a word and then breaks: found before a request finds it.

    error     certainly breaks, whoever wrote it: the config is refused
    warning   wrong in most cases, but a person may have meant it: it is said
              (in what we write ourselves there is no such thing; there it is an error)

A rule is a function and one entry of `RULES`. Each has a test that shows TensorZero taking the config, and
what becomes of the request (tests/route/test_lint_real.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.errors import HandWrittenError
from tasks.route.lint import functions, gateway, keys, servers, timeouts
from tasks.route.lint.look import Hit, Look, Place
from tasks.route.merge.block import INTACT
from tasks.route.merge.managed import NAMED, dotted
from tasks.wording import listed, plural

Severity = Literal["error", "warning"]
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a config: the rule's name, the place, what happens there and what to do."""

    rule: str
    where: str
    what: str
    then: str
    severity: Severity = "error"

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.where}: {self.what}; {self.then}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and how severe it is in what a person wrote."""

    name: str
    severity: Severity
    find: Callable[[Look], Iterator[Hit]]


RULES: tuple[Rule, ...] = (
    Rule("unknown-key", "error", keys.unknown_keys),
    Rule("no-variants", "error", functions.no_variants),
    Rule("unreachable-variant", "warning", functions.unreachable),
    Rule("sampled", "warning", functions.sampled),
    Rule("weight", "warning", functions.weights),
    Rule("api-base", "error", servers.addresses),
    Rule("api-base-version", "warning", servers.versions),
    Rule("sglang", "warning", servers.sglang),
    Rule("anthropic-max-tokens", "warning", servers.anthropic),
    Rule("ignored-max-tokens", "warning", servers.ignored_cap),
    Rule("timeout-above-parent", "warning", timeouts.above_parent),
    Rule("timeout-above-global", "warning", timeouts.above_global),
    Rule("timeout-caps-routing", "warning", timeouts.caps_routing),
    Rule("read-timeout", "warning", timeouts.read_below_total),
    Rule("object-storage", "error", gateway.no_storage),
    Rule("bind-address", "error", gateway.own_address),
    Rule("database", "error", gateway.databases),
)


def lint(
    config: Mapping[str, Any], *, ours: Mapping[str, Any] | None = None, environment: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Return what is wrong with a config, rule by rule.

    Args:
        config: The whole config.
        ours: The part that we wrote, in which a warning is an error.
        environment: Names of the variables that the gateway will have, for which database there is.
    """
    look = Look(config, frozenset(environment))
    return tuple(
        Finding(
            rule.name,
            dotted(hit.where),
            hit.what,
            hit.then,
            "error" if _in(ours or {}, hit.where) else rule.severity,
        )
        for rule in RULES
        for hit in rule.find(look)
    )


def errors(findings: Collection[Finding]) -> tuple[Finding, ...]:
    """Return those for which a config is refused."""
    return tuple(one for one in findings if one.severity == "error")


def warnings(findings: Collection[Finding]) -> tuple[str, ...]:
    """Return one sentence for each that is only said."""
    return tuple(str(one) for one in findings if one.severity == "warning")


def refuse(findings: Collection[Finding], name: str) -> None:
    """Refuse a config that would load and then break.

    Raises:
        RouteError: there is an error among the findings; the sentence has the first few.
    """
    found = errors(findings)
    if not found:
        return
    said = [f"{one.where} of {name}: {one.what}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        said.append(f"{plural(len(found) - SHOWN, 'more fault')}")
    steps = dict.fromkeys(one.then for one in found[:SHOWN])
    raise HandWrittenError(listed(said), INTACT, ", then ".join(steps))


def _in(ours: Mapping[str, Any], where: Place) -> bool:
    if where[0] not in ours:
        return False
    return where[0] not in NAMED or (len(where) > 1 and where[1] in ours[where[0]])
