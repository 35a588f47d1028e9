"""A `Door` → haproxy.cfg. Pure.

The text depends on the door alone. Where requests go stands in a map (haproxy_targets.py) that HAProxy looks
up for each request, so that a change of target is a change of that map in memory, and no reload.

    client -> frontend public -> backend slot1 -> 127.0.0.1:<port of the target in slot 1>
                              `-> backend slot2 …     slots exist for the counts of what is in flight

Directives: docs.haproxy.org/2.6/configuration.html.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from string import Template

from tasks.errors import RouteError
from tasks.route.proxy.contract import Door
from tasks.route.proxy.haproxy_targets import ACTIVE, SLOTS, TARGETS

CONFIG = "haproxy.cfg"
SCRIPT = "haproxy.lua"
ADMIN = "admin.sock"
MASTER = "master.sock"
COUNTS = "show pmoves-counts"
BUFFER_BYTES = 1 << 16
"""How much of an answer is looked at for who gave it. A request in flight takes two such buffers at most."""
HEAD_BYTES = 1 << 15
LONGEST = "20m"
HIGHEST_PORT = 65535
ADDRESS = re.compile(r"[0-9A-Za-z._-]+|\*")
DIGEST = re.compile(r"[0-9a-f]{64}")
INTACT = "requests go where they went before"

TEXT = Template("""\
# Written by the provisioner; what is changed by hand lasts until its next run.
global
    description "$mark"
    stats socket unix@$admin mode 600 level admin expose-fd listeners
    # One thread carries tens of thousands of requests/s, and is the same on every host.
    nbthread 1
    # Another process that listens on the port is an error to be told, never somebody to share it with.
    noreuseport
    maxconn 2000
    no strict-limits
    hard-stop-after $longest
    tune.bufsize $buffer_bytes
    lua-load $script
    log stdout format raw local0 notice
$tls
defaults
    mode http
    log global
    # Only what went wrong, and nothing of what was asked.
    option dontlog-normal
    log-format "%ci %b %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc"
    # No connection to a gateway is used twice, so that no request crosses the close of an idle one.
    option http-server-close
    # A client that goes away ends what runs for it.
    option abortonclose
    timeout connect 5s
    timeout http-request 30s
    timeout http-keep-alive 2m
    # Longer than the gateway's own limit of 15 minutes.
    timeout client $longest
    timeout server $longest
    timeout queue 30s
    # A refused connection alone is tried again: nothing of the request was sent.
    retries 3
    retry-on conn-failure
$failures
frontend public
    bind $bind
    acl model path_beg /openai/v1/
    acl model path /inference /feedback
    acl about path /status /health
    acl dots path,url_dec -m reg (^|/)[.][.]?(/|$$)
    acl long req.hdrs,length gt $head_bytes
    acl long url,length gt $head_bytes
    acl whole url -m beg -i http:// https://
    http-request set-var(txn.counted) bool(true) if model
    http-request return $refuse_long if long
    http-request return $refuse_whole if whole
$guards    http-request use-service prometheus-exporter if { path /metrics/haproxy }
    http-request use-service lua.pmoves_metrics if { path /metrics }
    http-request return $refuse_path if dots or !model !about
    http-request set-var(txn.slot) str($active),map($targets)
    http-request set-var(txn.row) var(txn.slot),map($targets)
    http-request set-var(txn.target) var(txn.row),field(1,/)
    http-request set-dst-port var(txn.row),field(2,/)
    use_backend %[var(txn.slot)]

    acl counted var(txn.counted) -m found
    acl good status 200
    acl json res.hdr(content-type) -m beg -i application/json
    acl events res.hdr(content-type) -m beg -i text/event-stream
    acl data res.body -m beg "data: "
    # HAProxy answers 504 when this wait is over, so it is as long as that for an answer. A first event comes
    # in one piece; one that does not is counted without names.
    http-response wait-for-body time $longest if counted good json
    http-response wait-for-body time $longest at-least 1 if counted good events
    http-response set-var(txn.model) res.body,json_query('$$.model') if counted good json
    http-response set-var(txn.model) res.body,bytes(6),json_query('$$.model') if counted good events data
    # Also what HAProxy answers itself, such as the 503 for a gateway that is gone.
    http-after-response set-var(txn.done) lua.pmoves_count if counted
""")

SLOT = Template("""
backend $slot
    server gateway 127.0.0.1
""")

TLS = """\
    ssl-default-bind-options ssl-min-ver TLSv1.2
"""

TOKEN = Template("""\
    acl bearer req.fhdr(authorization) -m beg -i "bearer "
    acl known req.fhdr(authorization),word(2,' '),sha2(256),hex,lower -m str $digest
    http-request return $refuse hdr www-authenticate Bearer unless bearer known
    http-request del-header authorization
""")

LOCAL = Template("""\
    acl local req.fhdr(host) -m reg -i '^($names)(:[0-9]{1,5})?$$'
    acl once req.fhdr_cnt(host) eq 1
    http-request return $refuse unless local once
""")

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")

FAILURES = {
    400: "the request is not HTTP/1.1 as it should be",
    408: "the request did not come within 30 s",
    502: "the gateway broke off, or what it answered is not HTTP",
    503: "the gateway does not answer",
    504: "the gateway did not answer within 20 min",
}


def render(door: Door, *, script: str, certificate: str = "", certificate_hash: str = "") -> str:
    """Return the whole of haproxy.cfg.

    Args:
        door: How clients come in.
        script: The text of haproxy.lua, which is a part of what the mark tells.
        certificate: Where HAProxy finds the certificate of the door; inside a container, where it is one.
        certificate_hash: A digest of it, so that a renewed one is another config.

    Raises:
        RouteError: the door cannot be written down.
    """
    _refuse_wrong(door)
    text = TEXT.substitute(
        mark="$mark",
        admin=ADMIN,
        buffer_bytes=BUFFER_BYTES,
        head_bytes=HEAD_BYTES,
        longest=LONGEST,
        script=SCRIPT,
        tls=TLS if certificate else "",
        failures="".join(_failure(status, text) for status, text in FAILURES.items()),
        bind=_bind(door, certificate),
        guards=_guards(door),
        refuse_long=_refusal(431, f"the head of the request has more than {HEAD_BYTES} bytes"),
        refuse_whole=_refusal(400, "this is no proxy: ask for a path, not for a whole address"),
        refuse_path=_refusal(404, "there is nothing here; /openai/v1 is what OpenAI clients ask"),
        active=ACTIVE,
        targets=TARGETS,
    )
    text += "".join(SLOT.substitute(slot=slot) for slot in SLOTS)
    digest = hashlib.sha256(f"{text}\0{script}\0{certificate_hash}".encode()).hexdigest()
    return text.replace("$mark", mark(door, digest))


def mark(door: Door, digest: str) -> str:
    """Return what a running HAProxy calls itself, so that its config can be told."""
    return f"pmoves {door.bind}:{door.port} {digest}"


def mark_of(config: str) -> str:
    """Return the mark of a rendered config."""
    return config.partition('description "')[2].partition('"')[0]


def port_of(running: str) -> int:
    """Return the port in a mark, 0 where there is none."""
    port = next(iter(running.split()[1:2]), "").rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def is_local(door: Door) -> bool:
    """Whether a door is open to this host alone."""
    if door.bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(door.bind).is_loopback
    except ValueError:
        return False


def error_body(status: int, message: str) -> str:
    """Return an error in the shape of OpenAI's API."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004  # HTTP's own border
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}})


def _in_brackets(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _literal(name: str) -> str:
    return name.replace("[", r"\[").replace("]", r"\]").replace(".", "[.]")


def _bind(door: Door, certificate: str) -> str:
    # Double quotes, in which HAProxy takes a backslash, a quote and a dollar for their own purposes.
    quoted = re.sub(r'(["\\$])', r"\\\1", certificate)
    return f"{_in_brackets(door.bind)}:{door.port}" + (
        f' ssl crt "{quoted}" alpn http/1.1' if certificate else ""
    )


def _guards(door: Door) -> str:
    """Return the rules for who may ask.

    A page whose name was made to resolve to this host (DNS rebinding) has no certificate for that name; where
    none is asked for, it is known by the name that its browser sends.
    """
    text = ""
    if is_local(door) and door.certificate is None:
        address = _in_brackets(door.bind)
        names = tuple(dict.fromkeys((*LOCAL_NAMES, address)))
        known = f"{', '.join(names[:-1])} or {names[-1]}"
        message = f"only requests to {known} are answered; use http://{address}:{door.port}"
        text += LOCAL.substitute(names="|".join(map(_literal, names)), refuse=_refusal(403, message))
    if door.token_sha256:
        message = "a bearer token is asked for, and what came is not it"
        text += TOKEN.substitute(digest=door.token_sha256, refuse=_refusal(401, message))
    return text


def _refusal(status: int, message: str) -> str:
    return f"status {status} content-type application/json string '{error_body(status, message)}'"


def _failure(status: int, message: str) -> str:
    return f"    http-error {_refusal(status, message)}\n"


def _refuse_wrong(door: Door) -> None:
    wrong = ""
    if not 0 < door.port <= HIGHEST_PORT:
        wrong = f"the port {door.port} is not between 1 and {HIGHEST_PORT}"
    elif not (ADDRESS.fullmatch(door.bind) or _is_address(door.bind)):
        wrong = f"{door.bind!r} is not an address to listen on"
    elif door.token_sha256 and not DIGEST.fullmatch(door.token_sha256):
        wrong = "the token's digest is not a sha256 in lower-case hex"
    if wrong:
        raise RouteError(wrong, INTACT, "change the settings of the gateway's door")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
