#!/usr/bin/env bash
# A Wharf of its own, in its own folders and under its own cgroup: three example apps from `git push`
# to an answer. `up` may be run again; `down` leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

port=${DEMO_PORT:-8080}
api_port=${DEMO_API_PORT:-8079}
data=${DEMO_DATA:-/var/lib/wharf-demo}
run=/run/wharf-demo
work=$data/work
wharf=$PWD/target/x86_64-unknown-linux-gnu/release/wharf
settings=(--data-dir "$data" --run-dir "$run" --cgroup wharf-demo --outbound-range 10.214.0.0/16)

say() { printf '\033[1m-----> %s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf -- '-----> %s\n' "$*"; }

need_root() {
  if [ "$(id -u)" != 0 ]; then
    echo "make demo starts containers: run it as root" >&2
    exit 1
  fi
}

down() {
  need_root
  if [ -x "$wharf" ]; then
    "$wharf" teardown "${settings[@]}" --with-data
  elif [ -e "$data" ] || [ -e "$run" ]; then
    echo "the demo's binary is gone; \`make release\` brings it back, then \`make demo-down\`" >&2
    exit 1
  fi
  say "The demo is gone"
}

build() {
  local began=$SECONDS
  say "Building the one binary (the first time takes some minutes)"
  cargo build --release --bin wharf
  say "Built in $((SECONDS - began)) s: $(du -h "$wharf" | cut -f1) static"
}

start_daemon() {
  mkdir -p "$data" "$run"
  if "$wharf" status --api "unix:$run/wharf.sock" >/dev/null 2>&1; then
    say "Wharf is up already"
    return
  fi
  say "Starting Wharf"
  setsid "$wharf" daemon "${settings[@]}" --listen "0.0.0.0:$port" \
    --api-listen "127.0.0.1:$api_port" >>"$data/daemon.log" 2>&1 </dev/null &
  for _ in $(seq 300); do
    "$wharf" status --api "unix:$run/wharf.sock" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "the daemon did not come up; its log ends with:" >&2
  tail -n 20 "$data/daemon.log" >&2
  exit 1
}

# An example as a repository of its own, with a first commit and, the second time, a change.
repository() {
  local name=$1 folder=$work/$1
  if [ ! -d "$folder/.git" ]; then
    mkdir -p "$folder"
    cp -a "examples/$name/." "$folder/"
    git -C "$folder" init -q -b main
  fi
  git -C "$folder" add -A
  git -C "$folder" -c user.name=Demo -c user.email=demo@localhost commit -q --allow-empty -m "demo"
}

push() {
  local name=$1
  repository "$name"
  cd "$work/$name"
  "$wharf" info -a "$name" >/dev/null 2>&1 || "$wharf" create "$name"
  git remote get-url wharf >/dev/null 2>&1 || "$wharf" remote:add -a "$name"
  say "git push wharf main   ($name)"
  git push wharf main
  cd - >/dev/null
}

up() {
  need_root
  scripts/needs.sh run
  build
  start_daemon
  export WHARF_API=unix:$run/wharf.sock WHARF_TOKEN
  WHARF_TOKEN=$(cat "$data/token")
  PATH=$(dirname "$wharf"):$PATH
  local apps=(node-web python-web static-site) app
  for app in "${apps[@]}"; do push "$app"; done
  echo
  say "Answering now"
  for app in "${apps[@]}"; do
    printf '       %-38s %s\n' "http://$app.localhost:$port/" \
      "$(curl -s -o /dev/null -w 'HTTP %{http_code} in %{time_total} s' -H "Host: $app.localhost" "http://127.0.0.1:$port/")"
  done
  cat <<EOF

       Open one in a browser, or try:
         export WHARF_API=$WHARF_API WHARF_TOKEN=\$(cat $data/token)
         alias wharf=$wharf
         wharf ps -a node-web            wharf logs -t -a node-web
         wharf ps:scale web=3 -a node-web
         wharf config:set GREETING=Ahoy -a node-web
         wharf run -a python-web -- python -V
       Whoever reaches port $port of this machine reaches the apps.
       make demo-down takes it all away again.
EOF
}

case ${1:-} in
  up) up ;;
  down) down ;;
  *) echo "usage: demo.sh up|down" >&2; exit 2 ;;
esac
