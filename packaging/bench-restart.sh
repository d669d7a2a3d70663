#!/bin/sh
# How long a node with many messages takes to serve again, after a clean stop and after kill -9.
# Fills a new data directory with COUNT messages of 1 KB by Postfix's smtp-source (on loopback).
#   packaging/bench-restart.sh [COUNT]        (default 1000000; DATA=DIR keeps and reuses the directory)
set -eu
count=${1:-1000000}
offset=21000
smtp=$((2525 + offset)) imap=$((2143 + offset))
dir=${DATA:-$(mktemp -d)}
[ -n "${DATA:-}" ] || trap 'rm -rf "$dir"' EXIT
export MAILPLUSD_DEV_PASSWORD=bench-password-1
command -v smtp-source >/dev/null || PATH=$PATH:/usr/sbin
pid=

start() {
	bin/mailplusd dev --data "$dir/data" --port-offset $offset >"$dir/log" 2>&1 &
	pid=$!
}

# serving waits for the greeting of SMTP and IMAP and prints the milliseconds since the start.
serving() {
	python3 - "$1" $smtp $imap <<'PY'
import socket, sys, time
t0 = float(sys.argv[1])
for port in map(int, sys.argv[2:]):
    while True:
        try:
            s = socket.create_connection(("127.0.0.1", port), 1)
            s.settimeout(30)
            if s.recv(1):
                break
        except OSError:
            time.sleep(0.002)
print("%.0f" % ((time.time() - t0) * 1000))
PY
}

now() { python3 -c 'import time; print(time.time())'; }

rss() { awk '/VmRSS/ {printf "%.0f MB", $2 / 1024}' "/proc/$pid/status"; }

start
serving "$(now)" >/dev/null
have=$(bin/mpctl --socket "$dir/data/admin.sock" storage show -o json | sed -n 's/.*"bodies": \([0-9]*\).*/\1/p')
if [ "$have" -lt "$count" ]; then
	t=$(now)
	left=$((count - have))
	smtp-source -l 1024 -m $((left / 2)) -s 32 -f a@x.example -t alice@example.test 127.0.0.1:$smtp &
	one=$!
	smtp-source -l 1024 -m $((left - left / 2)) -s 32 -f b@x.example -t bob@example.test 127.0.0.1:$smtp
	wait $one
	echo "filled with $left messages in $(python3 -c "import time; print(round(time.time() - $t))") s"
fi
echo "with $(bin/mpctl --socket "$dir/data/admin.sock" storage show -o json | sed -n 's/.*"bodies": \([0-9]*\).*/\1/p') bodies, $(du -sh "$dir/data" | cut -f1) on disk, resident $(rss):"
for how in TERM KILL TERM KILL TERM KILL; do
	t=$(now)
	kill -$how $pid
	wait $pid || true
	stopped=$(python3 -c "import time; print(round((time.time() - $t) * 1000))")
	t=$(now)
	start
	echo "  SIG$how: stopped in $stopped ms, serving after $(serving "$t") ms, resident $(rss)"
done
kill -TERM $pid
wait $pid || true
