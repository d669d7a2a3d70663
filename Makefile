# mailplusd: `make run` starts a system to try, `make test` proves it.
GO      ?= go
BIN     := bin
DATA    ?= var/dev
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := $(shell sed -n 's/.*Version *= "\(.*\)"/\1/p' mail/model/version.go)
export CGO_ENABLED ?= 0

.PHONY: chaos bench-send bench-failover bench-pair demo-pair bench-idle bench-restart all build run test unit stories race fuzz bench bench-peers check lint docs install deb tools clean

all: build

build:
	$(GO) build -trimpath $(if $(LDFLAGS),-ldflags "$(LDFLAGS)") -o $(BIN)/ ./cmd/mailplusd ./cmd/mpctl

# A whole system on loopback, without root: prints how to send and read a mail.
run: build
	$(BIN)/mailplusd dev --data $(DATA)

# A pair on loopback, without root: mail in a loop, the primary killed, everything counted. Takes less than a minute.
demo-pair: build
	$(GO) run ./packaging/demopair -bin $(BIN)

# Programs that the tests talk to; without root or apt, tests that need them skip and say so.
tools:
	@packaging/test-tools.sh

test: tools check build unit race

# -count=1: a story that ran yesterday proves nothing about today's machine.
unit:
	$(GO) test -count=1 -timeout 20m ./...

# Packages with goroutines, under the race detector (needs a C compiler).
RACE := ./cluster/... ./mail/imapd/... ./mail/state/... ./mail/store/... ./mail/wire/... ./mail/login/... ./mail/queue/... ./mail/view/... ./mail/maillog/... ./mail/directory/... ./admin/server/...
race:
	@if command -v gcc >/dev/null; then CGO_ENABLED=1 $(GO) test -race -short -count=1 -timeout 20m $(RACE); \
	else echo "race: no C compiler, skipped"; fi

check: lint

lint:
	@test -z "$$(gofmt -l admin cluster cmd mail packaging)" || { echo "not gofmt-ed:"; gofmt -l admin cluster cmd mail packaging; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Reference and man pages are made from the declarations, docs/flow.md from the chain; a test compares them with what is checked in.
docs: build
	rm -rf docs/reference docs/man
	$(BIN)/mpctl gen-docs --reference docs/reference --man docs/man
	$(GO) test -run TestFlowPage ./mail -update

FUZZTIME ?= 30s
fuzz:
	packaging/fuzz.sh $(FUZZTIME)

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Beside Debian's Postfix and Dovecot, in one run on this machine (root: installs and starts them on loopback).
bench-peers: build
	packaging/bench-peers.sh

# Sending to fifty other servers beside Postfix, and what 100,000 queued messages cost (QUEUED=n); needs root.
bench-send: build
	packaging/bench-send.sh

# A synchronous pair beside one node, on loopback in one run.
bench-pair: build
	packaging/bench-pair.sh

# Time to serve again with 1,000,000 messages (COUNT=n for another number); fills a directory first, which takes minutes.
bench-restart: build
	packaging/bench-restart.sh $(COUNT)

# Resident memory of idle IMAP connections, in clear text and with TLS (COUNT="1000 10000").
bench-idle: build
	packaging/bench-idle.sh $(COUNT)

# Pairs of real daemons in network namespaces suffer random faults (root); SEED=n begins there, a failing seed says how to repeat it.
SEEDS ?= 10
SEED  ?= 1
chaos:
	CHAOS_ALL=1 CHAOS_SEEDS=$(SEEDS) CHAOS_SEED=$(SEED) CHAOS_FAULTS=4 $(GO) test -count=1 -timeout 24h -v -run 'TestChaos$$|TestPair$$|TestDisks$$|TestClocks$$' ./cmd/mailplusd/pairtest

# How long a failover is felt at a client, in network namespaces (root); COUNT=n times each.
bench-failover:
	FIGURES=$(or $(COUNT),20) $(GO) test -count=1 -timeout 4h -v -run 'TestFigures$$' ./cmd/mailplusd/pairtest

install: build
	install -D -m 0755 $(BIN)/mailplusd $(DESTDIR)$(PREFIX)/sbin/mailplusd
	install -D -m 0755 $(BIN)/mpctl $(DESTDIR)$(PREFIX)/bin/mpctl
	install -D -m 0644 packaging/mailplusd.service $(DESTDIR)/lib/systemd/system/mailplusd.service
	sed -i 's|@PREFIX@|$(PREFIX)|g' $(DESTDIR)/lib/systemd/system/mailplusd.service
	test -e $(DESTDIR)/etc/mailplusd/mailplusd.yaml || install -D -m 0644 packaging/mailplusd.yaml $(DESTDIR)/etc/mailplusd/mailplusd.yaml
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 0644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -D -m 0644 packaging/mailplusd.8 $(DESTDIR)$(PREFIX)/share/man/man8/mailplusd.8
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN)/mpctl completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/mpctl
	chmod 0644 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mpctl
	$(BIN)/mpctl completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_mpctl
	chmod 0644 $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_mpctl
	$(BIN)/mpctl completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mpctl.fish
	chmod 0644 $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mpctl.fish
	install -D -m 0644 packaging/mailplusd.sysusers $(DESTDIR)/usr/lib/sysusers.d/mailplusd.conf
	@[ -n "$(DESTDIR)" ] || echo "Installed. Next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now mailplusd"

deb: # builds stripped programs itself
	packaging/deb.sh $(VERSION)

clean:
	rm -rf $(BIN) dist
