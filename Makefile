# The five things people do here, and the two a newcomer does: `make demo`, `make test`.
.PHONY: help demo demo-down check test host-test run release docs bench-push bench-build bench-proxy bench-engine bench-density bench-sleep vm upgrade-100 rounds needs clean-demo fuzz tls-check slow-check websocket-check

help: ## what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: ## build, start a Wharf of its own, push three example apps, show them answering
	@scripts/demo.sh up

demo-down: ## take the demo away, to the last file
	@scripts/demo.sh down

needs: ## install what building and testing need (Debian packages)
	@scripts/needs.sh test

check: ## format, lints, dependency rules
	@scripts/check.sh

test: needs ## the whole test suite, on real containers
	@scripts/test.sh

run: ## a daemon from this tree, in the foreground, with its data in target/run
	cargo build --bin wharf
	target/x86_64-unknown-linux-gnu/debug/wharf daemon --data-dir target/run/data \
		--run-dir /run/wharf-dev --listen 127.0.0.1:8080

release: ## the one static binary
	cargo build --release --bin wharf
	@ls -l target/x86_64-unknown-linux-gnu/release/wharf

docs: ## the generated part of the manual
	UPDATE_MANUAL=1 cargo test -q -p wharf --lib manual

vm: ## four boots of Debian's own kernel with cgroup v2 and systemd; writes docs/checks/vm.md
	@scripts/vm.sh

fuzz: ## each fuzz target for FUZZ_SECONDS (60); writes docs/checks/fuzz.md
	@scripts/checks.sh fuzz

tls-check: ## testssl.sh and Mozilla's recommendation at the TLS door; writes docs/checks/tls.md
	@scripts/checks.sh tls

slow-check: ## slowhttptest's four ways beside ordinary visitors; writes docs/checks/slow.md
	@scripts/checks.sh slow

websocket-check: ## websockets through the proxy, case by case; writes docs/checks/websockets.md
	@scripts/checks.sh websocket

bench-push: ## push-to-live, cold and code-only, next to docker; writes docs/benchmarks/push.md
	@bench/push.sh

bench-build: ## how long building takes, cold and after one line; writes docs/benchmarks/build.md
	@bench/build.sh

bench-density: ## 10, 100 and 1,000 apps on one machine, and idle ones beside; writes docs/benchmarks/density.md
	@bench/density.sh

bench-engine: ## containers next to crun, runc and docker; writes docs/benchmarks/engine.md
	@bench/engine.sh

rounds: ## 500 seeded rounds of kills of every process there is; writes docs/checks/rounds.md
	@scripts/rounds.sh

bench-sleep: ## the first request to an app that sleeps; writes docs/benchmarks/sleep.md
	@bench/sleep.sh

upgrade-100: ## replace the proxy's program 100 times under load; writes docs/checks/upgrade.md
	@scripts/upgrade.sh
