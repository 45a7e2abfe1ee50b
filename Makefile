# Builds, tests, runs and installs slimtad. `make run` and `make test` need nothing but a Swift toolchain on Debian 12:
# what else is missing they install (.ci/deps).
#
#   make build      .build/debug/slimtad; CONFIGURATION=release for .build/release/slimtad
#   make test       unit tests, then the interop tests with real programs; the last line counts both
#   make fuzz       every parser, codec and protocol machine with libFuzzer and AddressSanitizer, SECONDS=60 each; ONLY=reply,toml
#                   runs some, REPLAY=Tests/Fuzz/found/... one input again. `make test` replays what is kept
#   make lint       formatting, the walls between the targets, and the figures that Sources is held to
#   make figures    these figures: files, functions, circles, documentation
#   make run        try it: a slimtad of your own in .run/
#   make bench      measure the release build: the queue's storage alone, then the daemon (bench-store, bench-daemon)
#   make bench-compare BEFORE=FOLDER  what a change costs: this checkout beside another one whose release build is made
#   make crash      power cuts, kills and faults, ROUNDS=300 kills and the others in proportion; as root, for hours
#   make flood      what strangers and hostile peers can cost, as figures with bounds; ONLY=sessions runs one of Tests/Flood
#   make timing-auth  whether it shows in time which logins exist, for each mechanism of each back end: SAMPLES=500 of each
#                   kind; ONLY=dovecot measures one back end
#   make bench-million  a queue of a million deferred messages: start, memory, what is still accepted
#   make bench-cluster  the queue in PostgreSQL beside a plain C loop that inserts the same octets, in one run
#   make bench-cluster-million  a million deferred messages in PostgreSQL: nodes that start and die, commands, a retry storm
#   make bench-gate  what refused clients cost: sessions refused at connect, recipients refused in one session
#   make bench-http  messages a second over HTTP beside SMTP, on connections that are kept
#   make bench-quotas  what [quota] costs of the processor, a message, in one run
#   make bench-policies  what the repairs of a header cost of the processor where nothing is to be mended, in one run
#   make bench-dkim  what signatures cost of the processor, a small and a large message, in one run
#   make bench-sites  a million messages over 10,000 sites, of which some are dead and some slow: time to drain, memory, fairness
#   make kill-directory  1,000 files dropped into a pickup folder while the daemon is killed five times: each once
#   make bench-control  every operators' command against a queue of 100,000 deferred messages, and what mail notices
#   make install    into DESTDIR, below PREFIX (/usr/local); `make uninstall` takes it away again
#   make deb        the Debian package, in .build/deb
#   make test-system    the package in a machine with a real systemd
#   make clean      remove all that was built, fetched and run here

CONFIGURATION = debug
PREFIX = /usr/local
DESTDIR =
SYSCONFDIR = /etc/slimta
UNITDIR = /lib/systemd/system
MANDIR = $(PREFIX)/share/man
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d

# An import that Package.swift does not allow is an error.
SWIFT_FLAGS = --explicit-target-dependency-import-check error

# What no debugger will look at is built in less time: `make test DEBUG_INFO=none`, as continuous integration does.
DEBUG_INFO = dwarf

# What is shipped, and so what is measured.
BUILD_RELEASE = swift build $(SWIFT_FLAGS) --configuration release --static-swift-stdlib

.PHONY: build release test test-system lint figures bench bench-store bench-daemon bench-compare bench-million \
    bench-cluster bench-cluster-million bench-control bench-gate bench-http bench-quotas bench-policies bench-dkim bench-sites timing-auth kill-directory crash flood fuzz run install install-files \
    uninstall deb clean

build:
	.ci/deps build
	swift build $(SWIFT_FLAGS) --configuration $(CONFIGURATION)

test:
	.ci/deps test
	.ci/test $(SWIFT_FLAGS) -debug-info-format $(DEBUG_INFO)

lint:
	.ci/deps test
	swift format lint --strict --recursive Package.swift Sources Tests
	python3 Tests/walls.py

figures:
	python3 Tests/figures.py --circles

run:
	.ci/deps run
	swift build $(SWIFT_FLAGS) --configuration $(CONFIGURATION)
	etc/run-here .build/$(CONFIGURATION)/slimtad

# A build of its own, in .build/fuzz, two at a time. What is found lies in Tests/Fuzz/found from then on.
fuzz: SECONDS = 60
fuzz:
	.ci/deps build
	python3 Tests/Fuzz/fuzz.py --seconds $(SECONDS) --only "$(ONLY)" --replay "$(REPLAY)" -- $(SWIFT_FLAGS)

# SECONDS of each measurement; on the disk that .build is on.
SECONDS ?= 5
bench: bench-store bench-daemon

bench-store:
	.ci/deps build
	$(BUILD_RELEASE) --product storage-worker
	mkdir -p .build/bench-store
	.build/release/storage-worker bench .build/bench-store $(SECONDS)

# The load generator and the peers that slimtad is measured against are not part of this repository.
BENCH = ../shared/bench/bench.py
GENERATOR = $(or $(BENCH_STATE),.build/bench)/bin/smtpbench
bench-daemon:
	.ci/deps build
	$(BUILD_RELEASE) --product slimtad
	@test -x $(BENCH) || { echo "make bench-daemon: no $(BENCH) beside this repository, nothing to measure with" >&2; exit 1; }
	BENCH_STATE="$(CURDIR)/.build/bench" SLIMTAD="$(CURDIR)/.build/release/slimtad" \
	    python3 $(BENCH) run --peer slimtad --scenario S1

# SEED=N repeats the random choices of a run; ONLY=kill,faults runs some of the rigs.
ROUNDS ?= 300
crash:
	.ci/deps crash
	swift build $(SWIFT_FLAGS) --build-tests
	swift build $(SWIFT_FLAGS)
	python3 Tests/Crash/crash.py --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

# Each prints its figures, and fails if they are out of its bounds.
FLOODS = $(if $(ONLY),$(ONLY:%=Tests/Flood/%.py),$(filter-out %/common.py,$(wildcard Tests/Flood/*.py)))
flood:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	@failed=; for flood in $(FLOODS); do echo "== $$flood"; \
	    .venv/bin/python $$flood --slimtad .build/release/slimtad || failed="$$failed $$flood"; done; \
	    test -z "$$failed" || { echo "make flood: out of bounds:$$failed" >&2; exit 1; }

# By turns with the release build of another checkout, in BEFORE.
REPS ?= 5
bench-compare:
	.ci/deps build
	$(BUILD_RELEASE) --product slimtad
	$(BUILD_RELEASE) --product storage-worker
	@test -x "$(BEFORE)/.build/release/storage-worker" || { \
	    echo "make bench-compare: BEFORE=FOLDER is to name a checkout with a release build of slimtad and storage-worker" >&2; exit 1; }
	@test -x $(BENCH) || { echo "make bench-compare: no $(BENCH) beside this repository, nothing to measure with" >&2; exit 1; }
	mkdir -p .build/bench-store
	BENCH_STATE="$(or $(BENCH_STATE),$(CURDIR)/.build/bench)" python3 Tests/Benchmarks/compare.py \
	    --before "$(BEFORE)/.build/release" --now .build/release --bench $(BENCH) --folder .build/bench-store --reps $(REPS)

bench-million:
	.ci/deps build
	$(BUILD_RELEASE) --product slimtad
	@test -x $(GENERATOR) || { echo "make bench-million: no load generator $(GENERATOR)" >&2; exit 1; }
	python3 Tests/Benchmarks/million.py --slimtad .build/release/slimtad --generator $(GENERATOR)

# Needs PostgreSQL's server, a C compiler and libpq's headers.
bench-cluster:
	.ci/deps test
	$(BUILD_RELEASE) --product storage-worker
	python3 Tests/Benchmarks/cluster.py --worker .build/release/storage-worker

bench-cluster-million: MESSAGES = 1000000
bench-cluster-million:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	$(BUILD_RELEASE) --product storage-worker
	python3 Tests/Benchmarks/cluster_million.py --slimtad .build/release/slimtad --worker .build/release/storage-worker \
	    --messages $(MESSAGES)

bench-control:
	.ci/deps build
	$(BUILD_RELEASE) --product slimtad
	@test -x $(GENERATOR) || { echo "make bench-control: no load generator $(GENERATOR)" >&2; exit 1; }
	python3 Tests/Benchmarks/control.py --slimtad .build/release/slimtad --generator $(GENERATOR)

bench-gate:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	.venv/bin/python Tests/Benchmarks/gate.py --slimtad .build/release/slimtad

bench-http:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	.venv/bin/python Tests/Benchmarks/edges.py --slimtad .build/release/slimtad --seconds $(SECONDS)

bench-quotas:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	.venv/bin/python Tests/Benchmarks/quotas.py --slimtad .build/release/slimtad

bench-policies:
	.ci/deps build
	$(BUILD_RELEASE) --product mime-worker
	.build/release/mime-worker bench

bench-dkim:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	.venv/bin/python Tests/Benchmarks/dkim.py --slimtad .build/release/slimtad

# On a clock of its own and without a network: the figures are the rules'.
bench-sites:
	.ci/deps test
	BENCH_SITES=1 SLIMTAD_TESTS=SlimtaRelayTests swift test $(SWIFT_FLAGS) --filter ManySitesTests

SAMPLES ?= 500
timing-auth:
	.ci/deps test
	$(BUILD_RELEASE) --product slimtad
	.venv/bin/python Tests/Benchmarks/timing_auth.py --slimtad .build/release/slimtad --samples $(SAMPLES) \
	    $(if $(ONLY),--back-end $(ONLY))

FILES ?= 1000
kill-directory:
	.ci/deps test
	swift build $(SWIFT_FLAGS) --product slimtad
	SLIMTAD_FILES=$(FILES) .venv/bin/pytest -q -s Tests/Interop/test_directory.py -k killed_again_and_again

# The Swift runtime is linked in: nothing of Swift is needed where it runs.
release:
	.ci/deps build
	$(BUILD_RELEASE) --product slimtad

install: release install-files

# What has been built. Of the sample, edges listen on this machine only: the operator opens them. The units name the
# prefix.
BUILT = .build/release/slimtad
BACKTRACER = $(dir $(shell readlink -f "$$(command -v swift)"))../libexec/swift/linux/swift-backtrace-static
install-files:
	install -D -m 755 $(BUILT) "$(DESTDIR)$(PREFIX)/sbin/slimtad"
	install -D -m 755 $(BACKTRACER) "$(DESTDIR)$(PREFIX)/libexec/slimtad/swift-backtrace"
	install -d -m 755 "$(DESTDIR)$(SYSCONFDIR)" "$(DESTDIR)$(UNITDIR)"
	test -e "$(DESTDIR)$(SYSCONFDIR)/slimta.conf" || { \
	    sed -e 's|^listen = \["\[::\]|listen = ["127.0.0.1|' \
	    -e '/^# \[\[edge]]$$/{N;/"sendmail"/{N;N;s/^# //;s/\n# /\n/g}}' etc/slimta.conf >"$(DESTDIR)$(SYSCONFDIR)/slimta.conf" && \
	    chmod 644 "$(DESTDIR)$(SYSCONFDIR)/slimta.conf"; }
	for unit in slimtad.service slimtad.socket slimtad-submissions.socket slimtad-pipe.socket slimtad-pipe.service \
	    slimtad-pam.socket slimtad-pam.service; do \
	    sed 's,/usr/\(sbin\|libexec\)/slimtad,$(PREFIX)/\1/slimtad,g' systemd/$$unit >"$(DESTDIR)$(UNITDIR)/$$unit" && \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit; done
	install -D -m 644 systemd/slimtad.sysusers "$(DESTDIR)/usr/lib/sysusers.d/slimtad.conf"
	install -D -m 644 systemd/slimtad.tmpfiles "$(DESTDIR)/usr/lib/tmpfiles.d/slimtad.conf"
	install -d -m 755 "$(DESTDIR)/usr/lib/systemd/catalog"
	$(BUILT) catalog >"$(DESTDIR)/usr/lib/systemd/catalog/slimtad.catalog"
	chmod 644 "$(DESTDIR)/usr/lib/systemd/catalog/slimtad.catalog"
	install -D -m 644 etc/fail2ban/slimtad.conf "$(DESTDIR)/etc/fail2ban/filter.d/slimtad.conf"
	install -d -m 755 "$(DESTDIR)$(MANDIR)/man8" "$(DESTDIR)$(MANDIR)/man5"
	install -m 644 etc/man/slimtad.8 etc/man/slimtad-queue.8 etc/man/slimtad-sendmail.8 "$(DESTDIR)$(MANDIR)/man8"
	# The sample is the list of keys.
	awk -f etc/man/keys.awk etc/slimta.conf | sed -e '/^@KEYS@$$/{r /dev/stdin' -e 'd;}' etc/man/slimta.conf.5 \
	    >"$(DESTDIR)$(MANDIR)/man5/slimta.conf.5"
	chmod 644 "$(DESTDIR)$(MANDIR)/man5/slimta.conf.5"
	install -d -m 755 "$(DESTDIR)$(BASHDIR)" "$(DESTDIR)$(ZSHDIR)" "$(DESTDIR)$(FISHDIR)"
	$(BUILT) --generate-completion-script bash | sed 1{/^\#!/d} >"$(DESTDIR)$(BASHDIR)/slimtad"
	$(BUILT) --generate-completion-script zsh >"$(DESTDIR)$(ZSHDIR)/_slimtad"
	$(BUILT) --generate-completion-script fish >"$(DESTDIR)$(FISHDIR)/slimtad.fish"
	chmod 644 "$(DESTDIR)$(BASHDIR)/slimtad" "$(DESTDIR)$(ZSHDIR)/_slimtad" "$(DESTDIR)$(FISHDIR)/slimtad.fish"

# The configuration, the users and the queue stay: they are the operator's.
uninstall:
	rm -rf "$(DESTDIR)$(PREFIX)/sbin/slimtad" "$(DESTDIR)$(PREFIX)/libexec/slimtad" \
	    "$(DESTDIR)$(UNITDIR)/slimtad.service" \
	    "$(DESTDIR)$(UNITDIR)/slimtad.socket" "$(DESTDIR)$(UNITDIR)/slimtad-submissions.socket" \
	    "$(DESTDIR)$(UNITDIR)/slimtad-pipe.socket" "$(DESTDIR)$(UNITDIR)/slimtad-pipe.service" \
	    "$(DESTDIR)$(UNITDIR)/slimtad-pam.socket" "$(DESTDIR)$(UNITDIR)/slimtad-pam.service" \
	    "$(DESTDIR)/usr/lib/sysusers.d/slimtad.conf" "$(DESTDIR)/usr/lib/tmpfiles.d/slimtad.conf" \
	    "$(DESTDIR)/usr/lib/systemd/catalog/slimtad.catalog" "$(DESTDIR)/etc/fail2ban/filter.d/slimtad.conf" \
	    "$(DESTDIR)$(MANDIR)/man8/slimtad.8" "$(DESTDIR)$(MANDIR)/man8/slimtad-queue.8" \
	    "$(DESTDIR)$(MANDIR)/man8/slimtad-sendmail.8" \
	    "$(DESTDIR)$(MANDIR)/man5/slimta.conf.5" \
	    "$(DESTDIR)$(BASHDIR)/slimtad" "$(DESTDIR)$(ZSHDIR)/_slimtad" "$(DESTDIR)$(FISHDIR)/slimtad.fish"

deb: release
	.ci/deps deb
	etc/debian/build

# Needs root, and a host on which ../shared/systemd-lab boots machines; where it does not, it says why and fails.
test-system:
	.ci/test-system

clean:
	rm -rf .build .venv .run Package.resolved Tests/__pycache__ Tests/Interop/__pycache__ Tests/Interop/harness/__pycache__ \
	    Tests/Crash/__pycache__
