#!/usr/bin/env bash
# Creates .venv from uv.lock. Every failure is one sentence: what happened; what stays; what to do.
set -u
cd "$(dirname "$0")/.." || exit 1

refuse() { printf 'set-up: %s\n' "$*" >&2; exit 3; }

version_at_least() { "$1" -c "import sys; sys.exit(sys.version_info[:2] < ($2))" 2>/dev/null; }

python=""
target=3.12
downloads=never
for candidate in python3.12 python3.11 python3; do
  if command -v "$candidate" >/dev/null 2>&1 && version_at_least "$candidate" "3, 11"; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || refuse "no Python 3.11 or newer is on the PATH; nothing was changed; install one (Debian, Ubuntu: apt-get install python3 python3-venv)."

if version_at_least "$python" "3, 13"; then
  downloads=automatic
  printf 'set-up: %s is newer than 3.12, for which the model engine has wheels; uv fetches a 3.12 for .venv alone\n' "$python" >&2
else
  target=$(command -v "$python")
fi

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  refuse "$python has no venv module; nothing was changed; install it (Debian, Ubuntu: apt-get install python3-venv) and run make again."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
uv_version=0.13.9
if ! .tools/bin/uv --version 2>/dev/null | grep -qF "uv $uv_version"; then
  printf 'set-up: installing uv %s\n' "$uv_version" >&2
  rm -rf .tools
  "$python" -m venv .tools >"$log" 2>&1 ||
    refuse "a virtual environment could not be created ($(tail -n 1 "$log")); nothing else was changed; see the message and run make again."
  .tools/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version" >"$log" 2>&1 ||
    refuse "uv could not be installed from the package index ($(grep -v '^WARNING: Retrying' "$log" | tail -n 1)); nothing else was changed; check the network or your pip settings and run make again."
fi

printf 'set-up: installing the locked packages into .venv\n' >&2
# Compiled bytecode halves the start of everything that imports Prefect.
UV_COMPILE_BYTECODE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=$downloads \
  .tools/bin/uv sync --frozen --python "$target" >"$log" 2>&1 ||
  refuse "the locked packages could not be installed ($(grep -E 'error|Caused|failed' -i "$log" | head -n 2 | tr -s '\n ' ' ')); .venv may be incomplete and the next make goes on from here; check the network or the package index and run make again."
touch .venv/.ready
