"""The parts of the HAProxy proxy that need no HAProxy: texts and tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.proxy.contract import Count, Door, Target
from tasks.route.proxy.haproxy_config import (
    COUNTS,
    LONGEST,
    error_body,
    is_local,
    mark_of,
    port_of,
    render,
)
from tasks.route.proxy.haproxy_socket import parse_counts
from tasks.route.proxy.haproxy_starter import found, suits
from tasks.route.proxy.haproxy_targets import SLOTS, Table, parse, parse_map

CASES = Path(__file__).parents[1] / "cases" / "route" / "proxy"
DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
DOORS = {
    "local": (Door(3000), ""),
    "token": (Door(3000, token_sha256=DIGEST), ""),
    "open-tls": (Door(443, bind="::", token_sha256=DIGEST, certificate=Path("/a b.pem")), "/a b.pem"),
}
BLUE, GREEN = Target("blue", 4001), Target("green", 4002)


@pytest.mark.parametrize("name", DOORS)
def test_config(name: str) -> None:
    """A door is this text."""
    door, certificate = DOORS[name]

    text = render(door, script="script", certificate=certificate)

    assert text == (CASES / f"{name}.cfg").read_text()


def test_a_config_says_which_it_is() -> None:
    """All that HAProxy reads when it starts is a part of the mark, and where it listens can be told."""
    door = Door(3000)
    marks = {
        mark_of(text)
        for text in (
            render(door, script="a"),
            render(door, script="b"),
            render(door, script="a", certificate="/c", certificate_hash="1"),
            render(door, script="a", certificate="/c", certificate_hash="2"),
            render(door, script="a", certificate="/d", certificate_hash="2"),
            render(Door(3001), script="a"),
            render(Door(3000, token_sha256=DIGEST), script="a"),
        )
    }

    assert len(marks) == 7
    assert {port_of(mark) for mark in marks} == {3000, 3001}
    assert port_of(mark_of(render(Door(3000, bind="::"), script=""))) == 3000
    assert (port_of(""), port_of("x"), mark_of("nonsense")) == (0, 0, "")


def test_time_outs_are_longer_than_an_answer() -> None:
    """No wait for a part of an answer is shorter than that for all of it: that would lose the answer."""
    text = render(Door(3000), script="")

    assert {"20m"} == {LONGEST} == set(re.findall(r"wait-for-body time (\S+)", text))
    assert f"timeout server {LONGEST}\n" in text
    assert f"timeout client {LONGEST}\n" in text
    assert "retry-on conn-failure\n" in text


def test_messages_are_json() -> None:
    """Every text that HAProxy answers itself is an error in the shape of OpenAI's API."""
    text = render(Door(3000, token_sha256=DIGEST), script="")
    bodies = [json.loads(one) for one in re.findall(r"string '([^']*)'", text)]

    assert len(bodies) == text.count("string ")
    assert {tuple(body["error"]) for body in bodies} == {("message", "type", "param", "code")}
    assert json.loads(error_body(503, "x"))["error"]["type"] == "server_error"
    assert json.loads(error_body(429, "x"))["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("door", "why"),
    [
        (Door(0), "the port 0 is not between 1 and 65535"),
        (Door(65536), "the port 65536"),
        (Door(3000, bind="127.0.0.1 crt x"), "is not an address"),
        (Door(3000, bind="a\nb"), "is not an address"),
        (Door(3000, bind=""), "is not an address"),
        (Door(3000, token_sha256="secret"), "not a sha256"),
        (Door(3000, token_sha256=DIGEST.upper()), "not a sha256"),
    ],
)
def test_a_door_that_cannot_be_written_down(door: Door, why: str) -> None:
    """It is refused, and the refusal does not show a token."""
    with pytest.raises(RouteError, match=why) as told:
        render(door, script="")

    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("bind", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("*", False),
        ("192.168.1.5", False),
        ("tower", False),
    ],
)
def test_which_doors_are_local(bind: str, local: bool) -> None:  # noqa: FBT001  # a table
    """A door that only this host can reach asks for one of its names."""
    text = render(Door(3000, bind=bind), script="")

    assert is_local(Door(3000, bind=bind)) == local
    assert ("acl local " in text) == local
    assert ("acl local " in render(Door(3000, bind=bind, certificate=Path("c")), script="")) is False


@pytest.mark.parametrize(
    ("bind", "own", "others"),
    [
        ("127.0.0.1", "127.0.0.1", ("127.0.0.2", "127x0x0x1")),
        ("127.1.2.3", "127.1.2.3", ("127x1.2.3", "127.1.2.30", "127.0.0.2")),
        ("localhost", "localhost", ("127.0.0.2",)),
        ("::1", "[::1]", ("::1", "127.0.0.2")),
        ("0:0:0:0:0:0:0:1", "[0:0:0:0:0:0:0:1]", ("0:0:0:0:0:0:0:1", "0", ":")),
    ],
)
def test_what_a_local_door_is_asked_by(bind: str, own: str, others: tuple[str, ...]) -> None:
    """The address that it listens on, and the names of this host; a refusal says where to ask."""
    text = render(Door(3000, bind=bind), script="")
    found = re.search(r"acl local req\.fhdr\(host\) -m reg -i '(.*)'", text)
    assert found is not None
    known = re.compile(found[1])

    assert all(known.search(f"{one}{port}") for one in (own, "127.0.0.1", "[::1]") for port in ("", ":3000"))
    assert not any(known.search(one) for one in (*others, f"{own}.rebound.example", f"x{own}"))
    assert f"use http://{own}:3000" in text


# --- the table -----------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_written() -> None:
    """As a file, and as HAProxy shows it."""
    table = Table().pointed("slot1", BLUE).pointed("slot2", GREEN)
    shown = "".join(f"0x55665466d8d0 {line}\n" for line in table.render().splitlines())

    assert table.render() == "active slot2\nslot1 blue/4001\nslot2 green/4002\nslot3 -/0\nslot4 -/0\n"
    assert parse(table.render()) == parse_map(shown) == table
    assert parse(Table().render()) == Table()
    assert table.target == GREEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "active",
        "active slot1",
        "active slot9\nslot9 blue/4001",
        "active slot1\nslot1 blue",
        "active slot1\nslot1 blue/x",
        "active slot1\nslot1 blue/70000",
        "active slot1\nslot1 /4001",
        "active slot1\nslot1 a b/4001",
        "active slot1\nslot1 blue/²",
    ],
)
def test_what_is_no_table(text: str) -> None:
    """It leads nowhere."""
    assert parse(text).target is None


def test_which_slot_is_taken() -> None:
    """Its own, else one that was never used, else one whose requests have ended; never the active one."""
    one = Table().pointed("slot1", BLUE)
    full = Table("slot1", {slot: Target(slot, 1) for slot in SLOTS})
    idle = dict.fromkeys(SLOTS, 0)

    assert Table().slot_for(BLUE, {}) == "slot1"
    assert one.slot_for(BLUE, {"slot1": 5}) == "slot1"
    assert one.slot_for(GREEN, idle) == "slot2"
    assert one.slot_for(GREEN, {**idle, "slot2": 1}) == "slot3"
    assert full.slot_for(GREEN, {**idle, "slot2": 1, "slot3": 1}) == "slot4"
    assert full.slot_for(GREEN, dict.fromkeys(SLOTS, 1)) == ""
    assert full.slot_for(Target("slot3", 2), idle) == "slot3"
    assert one.slot_for(Target("blue", 9), idle) == "slot2"


# --- counts --------------------------------------------------------------------------------------


def test_counts() -> None:
    """Hour, target, function, variant and status, and how often."""
    text = "2026-11-25T17|g1|chat|local|200 12\n2026-11-25T17||||401 1\n2026-11-25T18|g-2|m:1.5/x||503 3\n\n"

    assert COUNTS == "show pmoves-counts"
    assert parse_counts(text) == (
        Count("2026-11-25T17", "g1", "chat", "local", 200, 12),
        Count("2026-11-25T17", "", "", "", 401, 1),
        Count("2026-11-25T18", "g-2", "m:1.5/x", "", 503, 3),
    )


@pytest.mark.parametrize(
    "text", ["", "Unknown command: 'show pmoves-counts'", "2026|g|f|v|2x0 1", "a|b|c|d|e|200 1"]
)
def test_what_are_no_counts(text: str) -> None:
    """Another program's words are none."""
    assert parse_counts(text) == ()


# --- the program ---------------------------------------------------------------------------------


SAID = """\
HAProxy version {version} 2026/10/17 - https://haproxy.org/
Built with OpenSSL version : OpenSSL 3.0.17
Built with Lua version : Lua 5.3.6
Built with the Prometheus exporter as a service
"""


@pytest.mark.parametrize(
    ("version", "good"),
    [("2.6.12-1+deb12u4", True), ("2.4.0", True), ("3.2.24-abc", True), ("2.2.9", False), ("1.8.8", False)],
)
def test_versions(version: str, good: bool) -> None:  # noqa: FBT001  # a table
    """2.4 and later have what is asked of it."""
    assert suits(SAID.format(version=version)) == good


@pytest.mark.parametrize("missing", ["Lua", "Prometheus", "OpenSSL"])
def test_what_it_is_built_with(missing: str) -> None:
    """One without Lua, TLS or the exporter is none."""
    lines = [line for line in SAID.format(version="2.6.12").splitlines() if missing not in line]

    assert not suits("\n".join(lines))


def test_the_first_that_will_do(tmp_path: Path) -> None:
    """A program that is too old is passed over, and so is one that cannot be started."""
    for folder, version in (("old", "2.2.1"), ("broken", ""), ("good", "2.8.1"), ("later", "3.0.0")):
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / "haproxy"
        said = f"#!/bin/sh\ncat <<'END'\n{SAID.format(version=version)}END\n"
        program.write_text(said if version else "#!/nowhere\n")
        program.chmod(0o755)
    path = ":".join(str(tmp_path / one) for one in ("none", "old", "broken", "good", "later"))

    assert found(path) == tmp_path / "good" / "haproxy"
    assert found(str(tmp_path / "none")) is None
    assert found("") is None
