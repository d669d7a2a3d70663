#!/bin/sh
# Measures a synchronous pair beside a single node, on loopback and in one run, all processes on the
# same processors. No root needed. Further words go to packaging/bench, such as -rounds 5.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d /tmp/bench-pair.XXXXXX)
pids=
cleanup() {
	for p in $pids; do kill "$p" 2>/dev/null && wait "$p" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT INT TERM
node() { # name, address
	bin/mailplusd serve --name "$1" --data "$dir/$1" --bind "$2" --link "$2:2826" --admin-socket "$dir/$1.sock" \
		--vip-driver loopback --log-level error >"$dir/$1.log" 2>&1 </dev/null &
	pids="$pids $!"
	for _ in $(seq 100); do bin/mpctl --socket "$dir/$1.sock" version >/dev/null 2>&1 && return; sleep 0.1; done
	cat "$dir/$1.log"; exit 1
}
setup() { # name
	m="bin/mpctl --socket $dir/$1.sock --yes"
	echo bench-secret-1 | $m setup new --domain example.test --admin alice --password-file - >/dev/null 2>&1
	$m service imap set --enable --port 2143 --tls-port 2993 >/dev/null 2>&1
	$m service smtp set --port 2525 >/dev/null 2>&1
	$m service smtps set --port 2465 >/dev/null 2>&1
	$m service submission set --port 2587 >/dev/null 2>&1
	$m account activate alice >/dev/null
}
node single 127.0.0.31; setup single
node a 127.0.0.32; node b 127.0.0.33; setup a
bin/mpctl --socket "$dir/b.sock" ha invite -o json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' >"$dir/invite"
bin/mpctl --socket "$dir/a.sock" --yes ha create --peer 127.0.0.33 --vip 127.0.0.30 --invite-file "$dir/invite" >/dev/null 2>&1
bin/mpctl --socket "$dir/a.sock" ha wait --for sync --timeout 60 >/dev/null
bin/mpctl --socket "$dir/a.sock" --yes ha set --sharing "${SHARING:-primary-only}" >/dev/null 2>&1
go build -o "$dir/bench" ./packaging/bench
"$dir/bench" -server single=127.0.0.31:2525,127.0.0.31:2143 -server pair=127.0.0.30:2525,127.0.0.30:2143 \
	-user alice -mailbox 0 -password bench-secret-1 "$@"
