"""Whether the real TensorZero loads a config; asked in a process of its own, with a clean environment.

    python -m tasks.route.validate PATH     exit code 0, or 1 with TensorZero's error on standard output

A process of its own, because a load that hangs can then be ended, and because a TensorZero that was
loaded before a fork hangs in the child.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import RouteError

INTACT = "the config in use is unchanged"
TIMEOUT_S = 30.0
CLOUD_SDK = re.compile(r"(aws_|gcp_)\w+(::.*)?|s3_compatible|sdk")
"""Values that make a cloud library look for credentials, on the network too, while the file loads."""

_ENV_NAME = re.compile(r"env::([A-Za-z_]\w*)")
_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def validate(path: Path, *, python: str = sys.executable, timeout_s: float = TIMEOUT_S) -> None:
    """Load a config in the real TensorZero, in a process that is killed after `timeout_s`.

    Raises:
        RouteError: it is not TOML, it could make a cloud library look for credentials, TensorZero
            rejects it, or it does not load in time.
    """
    text = _read(path)
    try:
        child = subprocess.run(
            (python, "-m", __name__, str(path.resolve())),
            env=clean_environment(text),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise _rejected(f"it did not load within {timeout_s:g} s", path.name) from late
    if child.returncode:
        said = child.stdout.strip() or child.stderr.strip().rpartition("\n")[2]
        raise _rejected(message_of(said) or f"its process ended with code {child.returncode}", path.name)


def refuse_cloud_sdk(config: dict[str, Any], name: str) -> None:
    """Refuse a config in which a provider could make a cloud library look for credentials.

    Raises:
        RouteError: names the first such place.
    """
    for where, word in _words(config, ()):
        if CLOUD_SDK.fullmatch(word):
            raise RouteError(
                f"{name} has {word!r} at {'.'.join(where)}, which makes a cloud library look for credentials "
                "on this host while the config loads",
                INTACT,
                "take it out and use a provider with an API key or none",
            )


def clean_environment(text: str) -> dict[str, str]:
    """Return what a process that only loads the config may see: a dummy for each key it names."""
    names = (name for name in _ENV_NAME.findall(text) if not name.startswith(("TENSORZERO_", "LD_")))
    return dict.fromkeys(names, "dummy") | {
        "PATH": os.defpath,
        "HOME": "/",
        "LANG": "C.UTF-8",
        "RUST_LOG": "",
        "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1",
    }


def message_of(error: str) -> str:
    """Return the sentence inside a TensorZero error, which may be the debug text of a Rust value."""
    found = _MESSAGE.search(error)
    sentence = _unescape(found[1]) if found else error.removeprefix("Internal TensorZero Error: ")
    return " ".join(sentence.split()).rstrip(".")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(
        lambda match: chr(int(match[1], 16)) if match[1] else _PLAIN_ESCAPES.get(match[2], match[2]), text
    )


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        config = tomllib.loads(text)
    except ValueError as error:  # of the decoder, or tomllib's own, which names line and column
        raise RouteError(f"{path.name} is not TOML: {error}", INTACT, f"correct {path.name} there") from error
    refuse_cloud_sdk(config, path.name)
    return text


def _words(value: object, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every string value, and the key of every entry of `provider_types`, with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list):
        for item in value:
            yield from _words(item, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            if where == ("provider_types",):
                yield where, key
            yield from _words(item, (*where, key))


def _rejected(message: str, name: str) -> RouteError:
    return RouteError(f"TensorZero rejects the config: {message}", INTACT, f"correct {name} or its origin")


def _load(path: Path) -> str:
    """Load a config as the gateway would; return TensorZero's error, or nothing."""
    from tensorzero import TensorZeroGateway  # noqa: PLC0415  # 0.2 s that the parent does not need

    os.chdir(path.parent)  # TensorZero takes a path for a glob pattern, and a folder may hold a "["
    try:
        TensorZeroGateway.build_embedded(config_file=path.name).close()
    except Exception as error:  # noqa: BLE001  # whatever it raises is the answer
        return str(error) or repr(error)
    return ""


def main(path: Path) -> int:
    """Be the child: print the error and return 1, or return 0."""
    error = _load(path)
    sys.stdout.write(error)
    sys.stdout.flush()
    return 1 if error else 0


if __name__ == "__main__":
    # Not sys.exit: threads of the native library can hold up the interpreter's own end.
    os._exit(main(Path(sys.argv[1])))
