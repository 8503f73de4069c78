#!/usr/bin/env bash
# How long Wharf takes to build: cold, and after a one-line change in each crate. Writes
# docs/benchmarks/build.md. Builds in a folder of its own, which is removed; wants a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
exec nice -n 10 python3 -B bench/build.py "$@"
