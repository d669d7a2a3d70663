#!/bin/sh
# Measures how fast mailplusd sends to fifty other servers beside Debian's Postfix, on loopback, in one run, and
# what a queue of QUEUED (100,000) messages costs. Needs root: it installs Postfix, and runs it with a
# configuration of its own in a temporary directory. Kills only what it started. Further words go to packaging/benchsend.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bench-send: needs root to run Postfix"; exit 1; }
export DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/sbin:/sbin
if ! command -v postfix >/dev/null; then
	apt-get -q -y update >/dev/null && apt-get -q -y install --no-install-recommends postfix >/dev/null
	/etc/init.d/postfix stop >/dev/null 2>&1 || true
fi
dir=$(mktemp -d /tmp/bench-send.XXXXXX)
chmod 755 "$dir"
cleanup() {
	[ -n "${ours:-}" ] && kill "$ours" 2>/dev/null && wait "$ours" 2>/dev/null
	postfix -c "$dir/postfix" stop >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap cleanup EXIT INT TERM
mkdir -p "$dir/postfix" "$dir/spool" "$dir/pdata"
chown postfix "$dir/pdata"
cp /etc/postfix/master.cf "$dir/postfix/master.cf" 2>/dev/null || cp /usr/share/postfix/master.cf.dist "$dir/postfix/master.cf"
sed -i 's/^smtp *inet/127.0.0.1:12525 inet/' "$dir/postfix/master.cf"
for i in $(seq 50); do echo "d$i.test smtp:[127.0.1.$i]:2599"; done >"$dir/postfix/transport"
cat >"$dir/postfix/main.cf" <<C
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/pdata
myhostname = mail.example.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
transport_maps = texthash:$dir/postfix/transport
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtp_address_preference = ipv4
maillog_file = $dir/postfix.log
maillog_file_prefixes = $dir
alias_maps =
alias_database =
C
postfix -c "$dir/postfix" check >/dev/null 2>&1 || true
postfix -c "$dir/postfix" start >/dev/null 2>&1

bin/mailplusd dev --data "$dir/mailplusd" --log-level error >"$dir/mailplusd.log" 2>&1 &
ours=$!
m="bin/mpctl --socket $dir/mailplusd/admin.sock"
for _ in $(seq 100); do $m domain show example.test >/dev/null 2>&1 && break; sleep 0.1; done
$m relay set --mode multi >/dev/null 2>&1
$m relay trusted add bench 127.0.0.0/8 >/dev/null
for i in $(seq 50); do $m relay rule add "d$i" --kind recipient --domain "d$i.test" --host "127.0.1.$i" --port 2599 --tls none >/dev/null; done

go build -o "$dir/bench" ./packaging/benchsend
"$dir/bench" -server mailplusd=127.0.0.1:2525 -server postfix=127.0.0.1:12525 "$@"

# A queue that nobody takes.
queued=${QUEUED:-100000}
rss() { awk '/VmRSS/ {print int($2/1024)}' "/proc/$ours/status"; }
sleep 5
before=$(rss)
"$dir/bench" -server mailplusd=127.0.0.1:2525 -fill "$queued"
sleep 10
echo "mailplusd resident: $before MB before, $(rss) MB with $queued messages queued, of which $($m queue list --limit 1000000 -o name | wc -l) are listed"
ms() { s=$(date +%s%N); "$@" >/dev/null; echo "$(( ($(date +%s%N) - s) / 1000000 )) ms: $*" | sed "s,$dir,DIR,"; }
ms $m queue list --limit 1000000 -o jsonl
ms $m queue list
ms $m queue list --domain d7.test
ms $m queue list --recipient u4711@ --state deferred
ms $m queue stats
