#!/usr/bin/env bash
# Plays seeded rounds of kills on a whole Wharf; writes docs/checks/rounds.md. A round takes two to three
# seconds. WHARF_ROUNDS=500 WHARF_SEED_FROM=1; `WHARF_SEED=n` plays one alone. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
record=$(mktemp)
trap 'rm -f "$record"' EXIT
export WHARF_ROUNDS=${WHARF_ROUNDS:-500} WHARF_SEED_FROM=${WHARF_SEED_FROM:-1} WHARF_RECORD=$record
export REQUIRE=root,network
page=docs/checks/rounds.md
began=$SECONDS
failed=0
cargo test -q -p wharf --test it faults::rounds:: -- --nocapture >target/rounds.log || failed=1
[ -s "$record" ] || { tail -n 50 target/rounds.log >&2; exit 1; }
findings=$(sed -n '/^## Findings/,$p' "$page" 2>/dev/null || true)
{
  echo "# Rounds of kills"
  echo
  echo 'Down to the findings written by `make rounds`; do not edit. Daemon, shim, PID 1, app and the two processes of the'
  echo 'proxy are killed by SIGKILL in any order, at any moment and at stored steps, while processes print, end, are'
  echo 'deployed, scaled, restarted and run once, under 60 requests a second. What is compared after each round:'
  echo '[faults.md](faults.md). CI plays the first 6 of the same rounds; `WHARF_SEED=n` plays one alone.'
  echo
  echo "- run on $(date -u '+%F %H:%M UTC'), commit $(git rev-parse --short HEAD), $(nproc) cores, debug build, $(uname -r), $(((SECONDS - began) / 60)) min"
  echo "- seeds $WHARF_SEED_FROM to $((WHARF_SEED_FROM + WHARF_ROUNDS - 1))"
  sed '/^$/d; s/^/- /' "$record"
  echo
  echo "${findings:-## Findings}"
} >target/rounds.md
mv target/rounds.md "$page"
cat "$page"
exit "$failed"
