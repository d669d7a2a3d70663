#!/bin/sh
# Resident memory of mailplusd with idle IMAP connections (logged in, INBOX selected, IDLE) on loopback, in clear text
# and with TLS, and how soon a client is told of new mail beside them.
# A daemon of its own for each line. Arguments: numbers of connections, 1000 and 10000 unless told;
# SETTLE is the pause before memory is read the second time, OFFSET is added to the ports. Kills only what it started.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 1000 10000
offset=${OFFSET:-10000}
ulimit -n "$(ulimit -Hn)"
dir=$(mktemp -d /tmp/bench-idle.XXXXXX)
cleanup() {
	[ -n "${ours:-}" ] && kill "$ours" 2>/dev/null && wait "$ours" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT INT TERM
go build -o "$dir/bench" ./packaging/bench
export MAILPLUSD_DEV_PASSWORD=bench-secret-1
for count; do
	[ "$(ulimit -n)" -gt $((count + 200)) ] || { echo "$count connections: skipped, only $(ulimit -n) open files are allowed"; continue; }
	for kind in clear tls; do
		data="$dir/$count.$kind"
		bin/mailplusd dev --data "$data" --port-offset "$offset" --log-level error >"$dir/log" 2>&1 &
		ours=$!
		for _ in $(seq 100); do
			bin/mpctl --socket "$data/admin.sock" config set delivery.max-connections=100000 \
				delivery.max-connections-per-address=100000 >/dev/null 2>&1 && break
			sleep 0.1
		done
		where="-imap 127.0.0.1:$((offset + 2143))"
		[ $kind = clear ] || where="-imap 127.0.0.1:$((offset + 2993)) -tls"
		"$dir/bench" -idle "$count" $where -smtp "127.0.0.1:$((offset + 2525))" -pid "$ours" -settle "${SETTLE:-40s}" -password "$MAILPLUSD_DEV_PASSWORD"
		kill "$ours"
		wait "$ours" || true
		ours=
		rm -rf "$data"
	done
done
