#!/usr/bin/env bash
# Replaces the proxy's program 100 times under load and kills its processes; writes down what visitors
# noticed.
set -euo pipefail
cd "$(dirname "$0")/.."
record=$(mktemp)
trap 'rm -f "$record"' EXIT
export WHARF_UPGRADES=${WHARF_UPGRADES:-100} WHARF_RECORD=$record
cargo test -q -p proxy --test it upgrade:: -- --test-threads 1
{
  echo "# The proxy's program replaced under load"
  echo
  echo 'Written by `make upgrade-100`; do not edit. CI does the same with 10 (`tests/it/upgrade.rs`), where the'
  echo 'counts are asserted; times are only recorded.'
  echo
  echo "- run on $(date -u '+%F %H:%M UTC'), commit $(git rev-parse --short HEAD), $(nproc) cores, debug build, $(uname -r)"
  sed 's/^/- /' "$record"
} > docs/checks/upgrade.md
cat docs/checks/upgrade.md
