"""Whether the real TensorZero loads a config; asked in a process of its own, with a clean environment.

    python -m tasks.route.validate PATH     exit code 0, or 1 with TensorZero's error on standard output

A process of its own, because a load that hangs can then be ended, and because a TensorZero that was
loaded before a fork hangs in the child.

What would reach out while it loads is switched off in a copy beside the file (`neutral`), so nothing is said
about a database here. The linter looks at those tables, and the gateway that starts with the whole config has
the last word.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import RouteError
from tasks.route.merge.block import BOM
from tasks.route.merge.keys import key_places
from tasks.route.merge.neutral import neutral

INTACT = "the config in use is unchanged"
TIMEOUT_S = 30.0
CLOUD_SDK = re.compile(r"(aws_|gcp_)\w+(::.*)?|s3_compatible|sdk")
"""Values that make a cloud library look for credentials, on the network too, while the file loads."""

_DUMMY = re.compile(r"[^=\0]+")
_OWN = re.compile(r"TENSORZERO_|LD_|PYTHON")
_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def validate(path: Path, *, python: str = sys.executable, timeout_s: float = TIMEOUT_S) -> None:
    """Load a config in the real TensorZero, in a process that is killed after `timeout_s`.

    Raises:
        RouteError: it is not TOML, it could make a cloud library look for credentials, TensorZero
            rejects it, or it does not load in time.
    """
    config = _read(path)
    with _neutral_copy(path, config) as loaded, _in_time(path, timeout_s):
        child = subprocess.run(
            (python, "-m", __name__, str(loaded.resolve())),
            env=clean_environment(config),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
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


def clean_environment(config: dict[str, Any]) -> dict[str, str]:
    """Return what a process that only loads the config may see: a dummy for each key that it asks for."""
    names = (name for name in key_places(config) if _DUMMY.fullmatch(name) and not _OWN.match(name))
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


@contextlib.contextmanager
def _neutral_copy(path: Path, config: dict[str, Any]) -> Iterator[Path]:
    """Give the file itself where nothing in it reaches out, else a copy beside it, where its paths hold."""
    text = neutral(config)
    if text is None:
        yield path
        return
    copy = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        copy.write_text(text, encoding="utf-8")
        yield copy
    except OSError as error:
        what = f"no copy of {path.name} can be put beside it ({error.strerror or error})"
        raise RouteError(what, INTACT, f"make {path.parent} writable") from error
    finally:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)


@contextlib.contextmanager
def _in_time(path: Path, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired as late:
        raise _rejected(f"it did not load within {timeout_s:g} s", path.name) from late


def _read(path: Path) -> dict[str, Any]:
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8").removeprefix(BOM))
    except (
        ValueError,
        RecursionError,
    ) as error:  # of the decoder, or tomllib's own: it names line and column
        raise RouteError(f"{path.name} is not TOML: {error}", INTACT, f"correct {path.name} there") from error
    refuse_cloud_sdk(config, path.name)
    return config


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
