"""Addresses, tokens, proxies, waits and the words for errors: what needs no socket."""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected

import pytest
import urllib3
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from tasks.errors import SourceRefusedError
from tasks.pull.fetch.causes import plain
from tasks.pull.fetch.pools import Pools, proxy_of
from tasks.pull.fetch.web import AgainError, Answer, StatusError, Web, Wires, host_of, origin, pause_s

NOON = "Wed, 25 Nov 2026 12:00:00 GMT"


class Wire:
    """Stands in for the pools: says the answers that it was given, and keeps what was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []

    def of(self, _url: str) -> Wire:
        """Return what asks."""
        return self

    def request(
        self, method: str, url: str, *, headers: dict[str, str], **_more: object
    ) -> urllib3.HTTPResponse:
        """Answer one request."""
        self.asked.append((url, headers))
        status, said = self.answers.pop(0)
        return urllib3.HTTPResponse(
            io.BytesIO(b""),
            headers=said,
            status=status,
            preload_content=False,
            request_method=method,
        )


def web(
    *answers: tuple[int, dict[str, str]], token: str | None = None, home: str = "http://hub"
) -> tuple[Web, Wire]:
    """Return a web that gets these answers."""
    made, wire = Web(Wires(), home=home, token=token), Wire(*answers)
    made._pools = wire  # type: ignore[assignment]  # it does what is asked of it
    return made, wire


# --- tokens and redirects --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "goes"),
    [
        ("/other", True),
        ("http://hub/other", True),
        ("http://HUB:80/other", True),
        ("http://hub:8080/other", False),
        ("https://hub/other", False),
        ("http://cdn/other", False),
        ("//cdn/other", False),
        ("http://hub.evil/other", False),
        ("http://hub@evil/other", False),
    ],
)
def test_token_goes_to_its_origin_alone(target: str, *, goes: bool) -> None:
    """The token is sent to the same scheme, host and port, and to nothing else."""
    made, wire = web((302, {"Location": target}), (200, {}), token="s3cret")

    made.open("http://hub/x")

    sent = [headers.get("Authorization") for _, headers in wire.asked]
    assert sent == ["Bearer s3cret", "Bearer s3cret" if goes else None]
    assert "s3cret" not in repr(made)


def test_no_token_no_header() -> None:
    """Without a token there is no such header."""
    made, wire = web((200, {}))

    made.open("http://hub/x")

    assert "Authorization" not in wire.asked[0][1]


def test_headers_go_to_every_hop() -> None:
    """The range is asked for behind the redirect as well; nothing is asked for packed."""
    made, wire = web((307, {"Location": "http://cdn/y"}), (206, {}))

    answer = made.open("http://hub/x", headers={"Range": "bytes=0-1"})

    assert [headers["Range"] for _, headers in wire.asked] == ["bytes=0-1"] * 2
    assert {headers["Accept-Encoding"] for _, headers in wire.asked} == {"identity"}
    assert (answer.url, answer.status) == ("http://cdn/y", 206)


def test_what_the_hub_says_of_a_file_is_kept() -> None:
    """Headers about the file stand on the redirect, and are there on the last answer."""
    made, _ = web(
        (302, {"Location": "/a", "X-Linked-Etag": '"1"', "X-Linked-Size": "5"}),
        (302, {"Location": "/b", "X-Other": "6"}),
        (200, {"ETag": '"2"'}),
    )

    headers = made.open("http://hub/x").headers

    assert (headers["x-linked-etag"], headers["x-linked-size"], headers["etag"]) == ('"1"', "5", '"2"')
    assert "x-other" not in headers


def test_check_sees_a_redirect_before_it_is_followed() -> None:
    """Whoever does not like what a redirect says keeps the next request from being made."""
    made, wire = web((302, {"Location": "/a"}), (200, {}))

    def refuse(answer: Answer) -> None:
        raise SourceRefusedError(str(answer.status), "", "")

    with pytest.raises(SourceRefusedError, match="302"):
        made.open("http://hub/x", check=refuse)

    assert len(wire.asked) == 1


def test_circle() -> None:
    """Five redirects are followed, and not a sixth."""
    step = (302, {"Location": "/x"})
    made, wire = web(*[step] * 5, (200, {}))
    assert made.open("http://hub/x").status == 200

    made, wire = web(*[step] * 9)
    with pytest.raises(SourceRefusedError, match="hub redirects in a circle"):
        made.open("http://hub/x")
    assert len(wire.asked) == 6


@pytest.mark.parametrize("target", ["ftp://x/y", "http://[::1", "http://x:99999/", "file:///etc/passwd"])
def test_redirect_to_nowhere(target: str) -> None:
    """What is no web address is not followed."""
    made, wire = web((302, {"Location": target}))

    with pytest.raises(SourceRefusedError, match="hub redirects to something that is no web address"):
        made.open("http://hub/x")

    assert len(wire.asked) == 1


def test_redirect_out_of_https() -> None:
    """From https nothing leads to http; from http to https it may."""
    made, _ = web((302, {"Location": "http://hub/y"}), home="https://hub")
    with pytest.raises(SourceRefusedError, match="redirects from https to plain http at hub"):
        made.open("https://hub/x")

    made, _ = web((302, {"Location": "https://hub/y"}), (200, {}))
    assert made.open("http://hub/x").url == "https://hub/y"


# --- statuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_to_try_again(status: int) -> None:
    """These may be better next time; how long to wait comes along."""
    made, _ = web((status, {"Retry-After": "7"}))

    with pytest.raises(AgainError, match=f"hub answered {status} ") as caught:
        made.open("http://hub/x")

    assert caught.value.wait_s == 7


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404 Not Found"), (401, "401 Unauthorized"), (599, "599")]
)
def test_other_statuses(status: int, reason: str) -> None:
    """All others are for whoever asked to explain."""
    made, _ = web((status, {"X-Error-Code": "GatedRepo"}))

    with pytest.raises(StatusError) as caught:
        made.open("http://hub/x")

    assert caught.value.reason == reason
    assert caught.value.headers["x-error-code"] == "GatedRepo"
    assert caught.value.url == "http://hub/x"


def test_proxy_that_wants_a_login() -> None:
    """407 comes from the proxy, and says so."""
    made, _ = web((407, {}))

    with pytest.raises(SourceRefusedError, match=r"the proxy refuses to ask hub \(407 Proxy Authentication"):
        made.open("http://hub/x")


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ({}, 0),
        ({"retry-after": "12"}, 12),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "99999"}, 300),
        ({"retry-after": "9" * 400}, 300),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 GMT", "date": NOON}, 30),
        ({"retry-after": "Wed, 25 Nov 2026 11:00:00 GMT", "date": NOON}, 0),
        ({"retry-after": "Wed, 25 Nov 2036 12:00:00 GMT", "date": NOON}, 300),
        ({"retry-after": "Fri, 02 Jan 1970 00:00:09 GMT", "date": "Fri, 02 Jan 1970 00:00:00 GMT"}, 9),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 GMT"}, 0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 -0000", "date": NOON}, 0),
        ({"ratelimit": '"api";r=0;t=41'}, 41),
        ({"ratelimit": '"api";r=0;t=4100'}, 300),
        ({"ratelimit": "limit=10"}, 0),
        ({"retry-after": "3", "ratelimit": '"api";r=0;t=41'}, 3),
    ],
    ids=str,
)
def test_how_long_to_wait(headers: Mapping[str, str], want: float) -> None:
    """Seconds, a date by the server's own clock, or the reset of its rate limit; five minutes at most."""
    assert pause_s(headers) == want


# --- addresses and proxies -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("http://hub/x", "http://hub:80"),
        ("https://Hub", "https://hub:443"),
        ("https://hub:80/x?y", "https://hub:80"),
        ("http://user:pass@hub/", "http://hub:80"),
        ("ftp://hub:21", ""),
        ("hub/x", ""),
        ("http://", ""),
        ("http://[::1", ""),
        ("http://hub:99999", ""),
        ("", ""),
    ],
)
def test_origin(url: str, want: str) -> None:
    """Scheme, host and port; nothing for what cannot be asked."""
    assert origin(url) == want


@pytest.mark.parametrize("url", ["", "hub/x", "http://", "http://[::1", "http://hub:99999/x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """No request is made for it."""
    made, wire = web((200, {}), token="s3cret")

    with pytest.raises(SourceRefusedError, match="is not an address that can be asked"):
        made.open(url)

    assert wire.asked == []


def test_host_of_hides_a_login() -> None:
    """A login in an address is in no sentence."""
    assert host_of("http://user:pass@hub:8080/x") == "hub:8080"
    assert host_of("http://[::1") == "http://[::1"


PROXIES = (
    ("HTTP_PROXY", "http://p:1"),
    ("https_proxy", "q:2"),
    ("ALL_PROXY", "r:3"),
    ("NO_PROXY", "near,.lan"),
)


@pytest.mark.parametrize(
    ("url", "variables", "want"),
    [
        ("http://hub/x", PROXIES, "http://p:1"),
        ("https://hub/x", PROXIES, "http://q:2"),
        ("http://near/x", PROXIES, ""),
        ("http://near:80/x", PROXIES, ""),
        ("http://a.lan/x", PROXIES, ""),
        ("http://nearby/x", PROXIES, "http://p:1"),
        ("http://hub/x", PROXIES[1:], "http://r:3"),
        ("http://hub/x", (), ""),
        ("http://hub/x", (("http_proxy", ""),), ""),
        ("http://hub/x", (*PROXIES, ("no_proxy", "*")), ""),
    ],
)
def test_proxy_of(url: str, variables: tuple[tuple[str, str], ...], want: str) -> None:
    """The proxy for the scheme, in either case of letters, unless the host is near."""
    assert proxy_of(url, variables) == want


def test_passwords_of_proxies_are_not_shown() -> None:
    """Wires may be printed."""
    assert "s3cret" not in repr(Wires(proxies=(("http_proxy", "http://u:s3cret@p"),)))


def test_twins_have_connections_of_their_own() -> None:
    """What is ended in one goes on in the other; home and token are the same."""
    made = Web(Wires(), home="http://hub", token="s3cret")

    twin = made.twin()
    twin.end()

    assert twin._token == "s3cret"
    assert twin._pools is not made._pools
    assert not made._pools._ended


def test_connection_that_comes_after_the_end_is_not_used() -> None:
    """A connection that was just being opened when all were ended is ended as well."""
    pools = Pools((), lambda: pytest.fail("no certificates are needed"))
    pools.end()
    one, two = socket.socketpair()

    with one, two, pytest.raises(ConnectionAbortedError):
        pools.note(one)


def test_cut_ends_a_read() -> None:
    """Who waits for bytes gets the end of the connection."""
    pools = Pools((), lambda: pytest.fail("no certificates are needed"))
    one, two = socket.socketpair()
    with one, two:
        one.settimeout(20)
        pools.note(one)
        pools.cut()

        assert one.recv(1) == b""


# --- words -----------------------------------------------------------------------------------


def caused(error: Exception, cause: BaseException) -> Exception:
    """Return `error` as it is when `cause` led to it."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (caused(OSError("x"), socket.gaierror(-2, "Name or service not known")), "its name does not resolve"),
        (caused(ValueError("x"), ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (TimeoutError("The read operation timed out"), "no answer in time"),
        (ReadTimeoutError(None, "/x", "Read timed out."), "no answer in time"),  # type: ignore[arg-type]
        (caused(ProtocolError("x"), BadStatusLine("\x00\xff")), "what it says is no HTTP"),
        (caused(ProtocolError("x"), RemoteDisconnected("Remote end closed connection")), "x"),
        (
            ProtocolError("Connection aborted.", RemoteDisconnected("Remote end closed")),
            "the connection broke off",
        ),
        (ProtocolError(f"Connection broken: {IncompleteRead(b'')!r}"), "the connection broke off"),
        (
            ValueError("<object at 0x7f>: Failed at https://hub/x?token=s3cret"),
            "Failed at",
        ),
        (ValueError(), "ValueError"),
    ],
    ids=repr,
)
def test_plain(error: Exception, words: str) -> None:
    """The cause in a few words, without addresses and objects."""
    assert plain(error) == words


def test_body_that_ends_or_is_too_long() -> None:
    """A small answer is read whole; one that is longer than allowed is not."""
    body = urllib3.HTTPResponse(io.BytesIO(b"x" * 100), status=200, preload_content=False)
    assert Answer(body, "http://hub").read_all(100) == b"x" * 100

    body = urllib3.HTTPResponse(io.BytesIO(b"x" * 101), status=200, preload_content=False)
    with pytest.raises(AgainError, match="an answer of more than 100 bytes"):
        Answer(body, "http://hub").read_all(100)
