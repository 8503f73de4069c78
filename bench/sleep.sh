#!/usr/bin/env bash
# How long the first request to a sleeping app takes, frozen and stopped, and what its memory comes to.
# Writes docs/benchmarks/sleep.md. Flags: --rounds N, --binary PATH, --warm FOLDER (layers and images).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make bench-sleep starts containers: run it as root" >&2
  exit 1
fi
case " $* " in
  *" --binary "*) ;;
  *)
    scripts/needs.sh bench
    echo "-----> Building the one binary"
    cargo build --release --bin wharf
    ;;
esac
exec python3 -B bench/sleep.py "$@"
