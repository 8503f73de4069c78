#!/usr/bin/env bash
# Wharf on Debian's own kernel with cgroup version 2 and systemd: four boots of a virtual machine, with a
# power cut between them. Writes docs/checks/vm.md. About a quarter of an hour; needs root, and no KVM.
#
# VM_PROFILE=debug takes the debug build; VM_ENGINE_TESTS=0 leaves the engine's own tests out.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make vm makes a Debian root: run it as root" >&2
  exit 1
fi
scripts/needs.sh vm
profile=${VM_PROFILE:-release}
flags=()
[ "$profile" = release ] && flags=(--release)
cargo build "${flags[@]}" --bin wharf
rm -rf target/vm/engine-tests
if [ "${VM_ENGINE_TESTS:-1}" = 1 ]; then
  scripts/vm/engine_tests.py
fi
scripts/vm/disk.sh "target/x86_64-unknown-linux-gnu/$profile/wharf"
status=0
python3 scripts/vm/run.py || status=$?
rm -f target/vm/disk
exit "$status"
