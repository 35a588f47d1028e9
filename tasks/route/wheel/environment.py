"""The file with the providers' keys → variables of this process, and of nothing else.

`os.putenv` sets them where the native library looks. The kernel goes on showing the environment that the
process was started with, so /proc/<pid>/environ does not have them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tasks.errors import RouteError
from tasks.route.merge.keys import read_environment


def take(path: Path) -> Mapping[str, str]:
    """Set every variable of the file in this process, and return them. Nothing that it holds is printed.

    Raises:
        RouteError: it cannot be read.
    """
    try:
        found = read_environment(path.read_text(encoding="utf-8"))
        for name, value in found.items():
            os.putenv(name, value)
    except OSError as error:
        raise _refused(path, error.strerror or type(error).__name__) from error
    except RouteError as error:
        raise _refused(path, error.what) from error
    except ValueError:
        # Of the decoder, or a zero byte. Neither text nor cause is told: both may quote a key.
        raise _refused(path, "it is not text") from None
    return found


def _refused(path: Path, why: str) -> RouteError:
    return RouteError(
        f"the gateway's environment {path} cannot be read ({why})",
        "nothing was started",
        "run `pmoves provision` again, which writes it anew",
    )
