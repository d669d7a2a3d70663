#!/bin/sh
# Measures mailplusd beside Debian's Postfix and Dovecot (LMTP, Maildir) on loopback, in one run.
# Needs root: it installs the packages, and runs both with configurations of its own in a temporary
# directory. Kills only what it started.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bench-peers: needs root to run Postfix and Dovecot"; exit 1; }
ulimit -n "$(ulimit -Hn)" # a thousand clients at once
export DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/sbin:/sbin
if ! command -v dovecot >/dev/null || ! command -v postfix >/dev/null || [ ! -x /usr/lib/dovecot/lmtp ]; then
	apt-get -q -y update >/dev/null && apt-get -q -y install --no-install-recommends postfix dovecot-imapd dovecot-lmtpd >/dev/null
	/etc/init.d/postfix stop >/dev/null 2>&1 || true
	/etc/init.d/dovecot stop >/dev/null 2>&1 || true
fi
dir=$(mktemp -d /tmp/bench-peers.XXXXXX)
chmod 755 "$dir"
cleanup() {
	[ -n "${ours:-}" ] && kill "$ours" 2>/dev/null && wait "$ours" 2>/dev/null
	doveadm -c "$dir/dovecot.conf" stop 2>/dev/null || true
	postfix -c "$dir/postfix" stop >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap cleanup EXIT INT TERM
packaging/bench-peers-setup.sh "$dir"

MAILPLUSD_DEV_PASSWORD=bench-secret-1 bin/mailplusd dev --data "$dir/mailplusd" --log-level error >"$dir/mailplusd.log" 2>&1 &
ours=$!
for _ in $(seq 100); do bin/mpctl --socket "$dir/mailplusd/admin.sock" status >/dev/null 2>&1 && break; sleep 0.1; done

go build -o "$dir/bench" ./packaging/bench
"$dir/bench" -server mailplusd=127.0.0.1:2525,127.0.0.1:2143,127.0.0.1:2993 \
	-server postfix+dovecot=127.0.0.1:12525,127.0.0.1:12143,127.0.0.1:12993 \
	-mpctl "bin/mpctl --socket $dir/mailplusd/admin.sock" -password bench-secret-1 "$@"
echo
curl -s http://127.0.0.1:2900/metrics 2>/dev/null | grep -E '^mailplusd_(body_fsyncs|body_appends|raft_)' || true
awk '/VmRSS/ {print "mailplusd resident: " $2/1024 " MB"}' "/proc/$ours/status"
