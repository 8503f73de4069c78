#!/usr/bin/env bash
# What a proxied request costs: Wharf next to Debian's nginx, HAProxy and Caddy, in the same run.
# Writes docs/benchmarks/proxy.md and proxy.json. Flags: --rounds N, --seconds N, --only CASE,...
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make bench-proxy pins and reads processes of other users: run it as root" >&2
  exit 1
fi
scripts/needs.sh bench-proxy
echo "-----> Building the one binary and the load it gets"
cargo build --release --bin wharf
cargo build --release -p proxy --example steady --example relay
exec python3 -B bench/proxy/run.py "$@"
