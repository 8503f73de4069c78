#!/usr/bin/env bash
# Installs the Debian packages that Wharf needs: `needs.sh run` for a machine that serves apps,
# `needs.sh test` for one that also runs the test suite, `needs.sh bench` what the benchmarks compare
# with, `needs.sh vm` for the virtual machine, `needs.sh check-tls` and its like for one of the checks.
# Installs nothing that is there.
set -euo pipefail

run=(git nftables iproute2 mmdebstrap e2fsprogs ca-certificates curl)
test=(gcc busybox-static runc skopeo docker-registry wrk openssl pebble prometheus python3-grpcio
  iptables postgresql docker.io)
bench=(docker.io nginx-light)
bench_engine=(docker.io busybox-static runc crun)
bench_proxy=(nginx-light haproxy caddy wrk nghttp2-client openssl)
# Debian's qemu-utils is not among them, and one from elsewhere may have to make way.
vm=(qemu-system-x86 e2fsprogs zstd)
check_fuzz=(g++ python3)
check_tls=(testssl.sh openssl bsdextrautils python3-venv)
check_slow=(slowhttptest python3)
check_websocket=(python3-venv)
wanted=("${run[@]}")
case ${1:-run} in
  test) wanted+=("${test[@]}") ;;
  vm) wanted+=("${vm[@]}") ;;
  bench) wanted+=("${bench[@]}") ;;
  bench-engine) wanted+=("${bench_engine[@]}") ;;
  bench-proxy) wanted+=("${bench_proxy[@]}") ;;
  check-fuzz) wanted=("${check_fuzz[@]}") ;;
  check-tls) wanted=("${check_tls[@]}") ;;
  check-slow) wanted=("${check_slow[@]}") ;;
  check-websocket) wanted=("${check_websocket[@]}") ;;
esac

missing=()
for package in "${wanted[@]}"; do
  if ! dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$'; then
    # A program that came another way is as good as its package.
    case $package in
      # Docker's own packages and Debian's do not live on one machine.
      docker.io) command -v dockerd >/dev/null && continue ;;
      git|curl|gcc|g++|python3|openssl) command -v "$package" >/dev/null && continue ;;
    esac
    missing+=("$package")
  fi
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "needs: ${missing[*]}; run as root, or: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "-----> Installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  exit 1
fi
