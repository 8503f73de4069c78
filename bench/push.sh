#!/usr/bin/env bash
# Push-to-live of the example apps, cold and for a code-only change, next to Docker in the same run.
# Writes docs/benchmarks/push.md and push.json. Flags: --rounds N, --only APP, --no-docker, --no-memory.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make bench-push starts containers: run it as root" >&2
  exit 1
fi
scripts/needs.sh bench
echo "-----> Building the one binary"
cargo build --release --bin wharf
exec python3 -B bench/push.py "$@"
