#!/usr/bin/env bash
# How many apps one machine holds, and whether what a change costs grows with them: 10, 100 and 1,000 apps
# with a small web server each, then 2,000 idle replicas beside them. Writes docs/benchmarks/density.md and
# density.json. Flags: --apps N (the last step), --idle N.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make bench-density starts containers: run it as root" >&2
  exit 1
fi
scripts/needs.sh bench-engine
echo "-----> Building the one binary"
cargo build --release --bin wharf
exec python3 -B bench/density.py "$@"
