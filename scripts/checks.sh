#!/usr/bin/env bash
# Checks of the data path that need more than the test suite: `checks.sh fuzz`, `tls`, `slow` or
# `websocket`. Each installs what it needs, runs on ports of its own, cleans up after itself, and writes
# its page in docs/checks.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?which check: fuzz, tls, slow or websocket}
scripts/needs.sh "check-$name"
case $name in
  tls) packages=(sslyze) ;;
  websocket) packages=(websockets wsproto) ;;
  *) packages=() ;;
esac
python=python3
if [ ${#packages[@]} -gt 0 ]; then
  venv=target/checks-venv/$name
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  python=$venv/bin/python
fi
exec "$python" -B "scripts/checks/$name.py"
