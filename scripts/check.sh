#!/usr/bin/env bash
# Format, lints and the rules about dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all -- --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
for banned in openssl-sys aws-lc-sys native-tls; do
  if grep -q "^name = \"$banned\"$" Cargo.lock; then
    echo "check: $banned is in Cargo.lock, and must not be" >&2
    exit 1
  fi
done
too_long=$(git ls-files '*.rs' | xargs -r wc -l | awk '$2 != "total" && $1 > 600')
if [ -n "$too_long" ]; then
  echo "check: files past 600 lines:" >&2
  echo "$too_long" >&2
  exit 1
fi
