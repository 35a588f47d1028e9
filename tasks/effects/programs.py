"""supervisord's own config text, from a `ProcessSpec`. Pure, but for the user's id."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tasks.contracts import ProcessSpec
from tasks.effects.pids import MARK
from tasks.effects.processes import spec_hash
from tasks.errors import ServeError

MAIN = """\
[supervisord]
logfile={folder}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={folder}/supervisord.pid
nodaemon=true
silent=true
directory={folder}
{user}
[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=programs/*.conf
"""

COMMAND = "command="

PROGRAM = """\
; {digest}
[program:{name}]
command={command}
environment={environment}
autorestart=true
startsecs=1
startretries=6
stopsignal=TERM
stopwaitsecs={stop_timeout_s}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


def main_config(folder: Path, socket: Path) -> str:
    """Return the config of supervisord itself."""
    user = "user=root\n" if os.geteuid() == 0 else ""
    return MAIN.format(folder=_escape(str(folder)), socket=_escape(str(socket)), user=user)


def program(spec: ProcessSpec, state: Path, log: Path) -> str:
    """Return the config of one process; its first line holds the hash of `spec`."""
    environment = (*spec.environment, (MARK, str(state)))
    return PROGRAM.format(
        digest=spec_hash(spec),
        name=spec.name,
        command=_escape(shlex.join(spec.command)),
        environment=",".join(f"{key}={_quote(value)}" for key, value in environment),
        stop_timeout_s=spec.stop_timeout_s,
        log=_escape(str(log)),
    )


def command_in(text: str) -> tuple[str, ...]:
    """Return the command that a program's config was made of."""
    line = next((one for one in text.splitlines() if one.startswith(COMMAND)), "")
    return tuple(shlex.split(line.removeprefix(COMMAND).replace("%%", "%")))


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _quote(text: str) -> str:
    """Quote a value for supervisord's environment line, which knows quotes but no escapes."""
    quote = "'" if '"' in text else '"'
    if quote in text or "\n" in text:
        raise ServeError(
            "an environment value holds a line break or both kinds of quotes, which supervisord cannot carry",
            "nothing was started",
            "change that value",
        )
    return f"{quote}{_escape(text)}{quote}"
