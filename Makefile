# Builds, tests, runs and installs slimtad. `make run` and `make test` need nothing but a Swift toolchain on Debian 12:
# what else is missing they install (.ci/deps).
#
#   make build      .build/debug/slimtad; CONFIGURATION=release for .build/release/slimtad
#   make test       unit tests, then the interop tests with real programs; the last line counts both
#   make lint       formatting, and the walls between the targets
#   make run        try it: a slimtad of your own in .run/
#   make bench      measure the release build: the queue's storage alone, then the daemon (bench-store, bench-daemon)
#   make crash      power cuts, kills and faults, ROUNDS=300 kills and the others in proportion; as root, for hours
#   make bench-million  a queue of a million deferred messages: start, memory, what is still accepted
#   make install    into DESTDIR, below PREFIX (/usr/local); `make uninstall` takes it away again
#   make clean      remove all that was built, fetched and run here

CONFIGURATION = debug
PREFIX = /usr/local
DESTDIR =
SYSCONFDIR = /etc/slimta
UNITDIR = /lib/systemd/system

# An import that Package.swift does not allow is an error.
SWIFT_FLAGS = --explicit-target-dependency-import-check error

.PHONY: build test lint bench bench-store bench-daemon bench-million crash run install uninstall clean

build:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration $(CONFIGURATION)

test:
	.ci/deps test
	.ci/test $(SWIFT_FLAGS)

lint:
	.ci/deps test
	swift format lint --strict --recursive Package.swift Sources Tests
	python3 Tests/walls.py

run:
	.ci/deps run
	swift build $(SWIFT_FLAGS) --configuration $(CONFIGURATION)
	etc/run-here .build/$(CONFIGURATION)/slimtad

# SECONDS of each measurement; on the disk that .build is on.
SECONDS = 5
bench: bench-store bench-daemon

bench-store:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration release --product storage-worker
	mkdir -p .build/bench-store
	.build/release/storage-worker bench .build/bench-store $(SECONDS)

# The load generator and the peers that slimtad is measured against are not part of this repository.
BENCH = ../shared/bench/bench.py
GENERATOR = $(or $(BENCH_STATE),.build/bench)/bin/smtpbench
bench-daemon:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration release --product slimtad
	@test -x $(BENCH) || { echo "make bench-daemon: no $(BENCH) beside this repository, nothing to measure with" >&2; exit 1; }
	BENCH_STATE="$(CURDIR)/.build/bench" SLIMTAD="$(CURDIR)/.build/release/slimtad" \
	    python3 $(BENCH) run --peer slimtad --scenario S1

# SEED=N repeats the random choices of a run; ONLY=kill,faults runs some of the rigs.
ROUNDS = 300
crash:
	.ci/deps crash
	swift build $(SWIFT_FLAGS) --build-tests
	swift build $(SWIFT_FLAGS)
	python3 Tests/Crash/crash.py --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

bench-million:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration release --product slimtad
	@test -x $(GENERATOR) || { echo "make bench-million: no load generator $(GENERATOR)" >&2; exit 1; }
	python3 Tests/Benchmarks/million.py --slimtad .build/release/slimtad --generator $(GENERATOR)

install:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration release --static-swift-stdlib --product slimtad
	install -D -m 755 .build/release/slimtad "$(DESTDIR)$(PREFIX)/sbin/slimtad"
	install -d -m 755 "$(DESTDIR)$(SYSCONFDIR)"
	test -e "$(DESTDIR)$(SYSCONFDIR)/slimta.conf" || \
	    install -m 644 etc/slimta.conf "$(DESTDIR)$(SYSCONFDIR)/slimta.conf"
	install -d -m 755 "$(DESTDIR)$(UNITDIR)"
	sed 's|/usr/sbin/slimtad|$(PREFIX)/sbin/slimtad|g' systemd/slimtad.service >"$(DESTDIR)$(UNITDIR)/slimtad.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/slimtad.service"

# The configuration, the users and the queue stay: they are the operator's.
uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/sbin/slimtad" "$(DESTDIR)$(UNITDIR)/slimtad.service"

clean:
	rm -rf .build .venv .run Package.resolved Tests/Interop/__pycache__ Tests/Interop/harness/__pycache__ Tests/Crash/__pycache__
