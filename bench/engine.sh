#!/usr/bin/env bash
# Our container engine next to crun, runc and Docker: starts, first bytes, commands, ends, memory, and
# what work costs inside. Writes docs/benchmarks/engine.md and engine.json. Flags: --rounds N, --no-docker.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make bench-engine starts containers: run it as root" >&2
  exit 1
fi
scripts/needs.sh bench-engine
echo "-----> Building the engine and its bench"
cargo build --release --package engine --bin engine-shim --example bench
exec python3 -B bench/engine.py "$@"
