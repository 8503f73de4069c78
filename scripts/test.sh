#!/usr/bin/env bash
# The whole suite. Needs root for the tests on real containers; without it they say what they skip.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] && export REQUIRE=${REQUIRE:-root,network}
if command -v cargo-nextest >/dev/null; then
  cargo nextest run --workspace --no-fail-fast "$@"
else
  cargo test --workspace --no-fail-fast "$@"
fi
