#!/bin/sh
# deb.sh VERSION [DIRECTORY]: builds mailplusd_VERSION_ARCH.deb in DIRECTORY (dist) with programs of its own.
set -eu
umask 022
version=$1
dist=${2:-dist}
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
make --no-print-directory install LDFLAGS="-s -w" BIN="$work/bin" DESTDIR="$root" PREFIX=/usr
rm -rf "$root/etc/mailplusd"
install -D -m 0644 packaging/mailplusd.yaml "$root/etc/mailplusd/mailplusd.yaml"
install -D -m 0644 README.md "$root/usr/share/doc/mailplusd/README.md"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
packaging/copyright.sh >"$root/usr/share/doc/mailplusd/copyright"
install -d "$root/usr/share/lintian/overrides"
printf 'mailplusd: statically-linked-binary [usr/%s]\n' bin/mpctl sbin/mailplusd >"$root/usr/share/lintian/overrides/mailplusd"
printf 'mailplusd (%s) unstable; urgency=medium\n\n  * See the history of the source.\n\n -- mailplusd developers <mailplusd@example.org>  %s\n' "$version" "$(date -R)" |
	gzip -9n >"$root/usr/share/doc/mailplusd/changelog.gz"
mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<C
Package: mailplusd
Version: $version
Architecture: $arch
Maintainer: mailplusd developers <mailplusd@example.org>
Section: mail
Priority: optional
Depends: adduser
Suggests: msmtp-mta
Provides: imap-server, pop3-server
Description: mail server for a pair of machines
 SMTP, IMAP and POP3 with replicated state, and one command for every
 administrative act, mpctl.
C
echo /etc/mailplusd/mailplusd.yaml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/postinst" <<'C'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	getent group mailplus >/dev/null || addgroup --quiet --system mailplus
	getent passwd mailplus >/dev/null || adduser --quiet --system --ingroup mailplus --home /var/lib/mailplusd --no-create-home --disabled-login mailplus
	# What a purge has hidden is shown again; an administrator's "disable" stays.
	deb-systemd-helper unmask mailplusd.service >/dev/null || true
	if deb-systemd-helper --quiet was-enabled mailplusd.service; then
		deb-systemd-helper enable mailplusd.service >/dev/null || true
	else
		deb-systemd-helper update-state mailplusd.service >/dev/null || true
	fi
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
		if [ -n "$2" ]; then action=restart; else action=start; fi
		deb-systemd-invoke "$action" mailplusd.service >/dev/null || true
	fi
fi
C
cat >"$root/DEBIAN/prerm" <<'C'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then deb-systemd-invoke stop mailplusd.service >/dev/null || true; fi
C
cat >"$root/DEBIAN/postrm" <<'C'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi
if [ "$1" = purge ] && command -v deb-systemd-helper >/dev/null; then deb-systemd-helper purge mailplusd.service >/dev/null || true; fi
if [ "$1" = purge ] && [ -d /var/lib/mailplusd ]; then
	echo "mailplusd: all mail and settings stay in /var/lib/mailplusd; to lose them for ever: rm -r /var/lib/mailplusd"
fi
C
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
mkdir -p "$dist"
dpkg-deb --root-owner-group --build "$root" "$dist/mailplusd_${version}_${arch}.deb"
