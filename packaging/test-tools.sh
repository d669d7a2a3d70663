#!/bin/sh
# Installs the programs that tests talk to, where that is possible. Never fails: tests skip with a word.
want="swaks:swaks mbsync:isync mutt:mutt s-nail:s-nail fetchmail:fetchmail getmail:getmail6 offlineimap:offlineimap3 dovecot:dovecot-imapd curl:curl openssl:openssl postfix:postfix tmux:tmux named:bind9 dnssec-signzone:bind9-utils slapd:slapd ldapsearch:ldap-utils samba-tool:samba haproxy:haproxy"
missing=""
for w in $want; do
	prog=${w%%:*} pkg=${w##*:}
	PATH=$PATH:/usr/sbin:/sbin command -v "$prog" >/dev/null 2>&1 || missing="$missing $pkg"
done
/usr/bin/python3 -c "import dkim, nacl" 2>/dev/null || missing="$missing python3-dkim python3-nacl"
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
perl -MMail::SRS -e 1 2>/dev/null || missing="$missing libmail-srs-perl"
[ -d /usr/share/samba/setup ] || missing="$missing samba-ad-provision"
ls /usr/lib/*/samba/ldb/samba_dsdb.so >/dev/null 2>&1 || missing="$missing samba-dsdb-modules"
ls /usr/lib/*/samba/vfs/acl_xattr.so >/dev/null 2>&1 || missing="$missing samba-vfs-modules"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "test tools missing:$missing (tests that need them skip)"
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ apt-get -q -y update && apt-get -q -y install --no-install-recommends $missing; } >"$log" 2>&1 ||
	{ echo "could not install:$missing"; tail -3 "$log"; }
rm -f "$log"
# Debian starts what it installs; the tests start their own.
for s in postfix dovecot named slapd smbd nmbd samba-ad-dc haproxy; do
	[ -x "/etc/init.d/$s" ] && "/etc/init.d/$s" stop >/dev/null 2>&1
done
exit 0
