#!/bin/sh
# Builds dist/mailplusd_VERSION_ARCH.deb from bin/.
set -eu
version=$1
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
make --no-print-directory install DESTDIR="$root" PREFIX=/usr
rm -rf "$root/etc/mailplusd"
install -D -m 0644 packaging/mailplusd.yaml "$root/etc/mailplusd/mailplusd.yaml"
install -D -m 0644 README.md "$root/usr/share/doc/mailplusd/README.md"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
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
Provides: mail-transport-agent, imap-server, pop3-server
Conflicts: mail-transport-agent
Description: mail server for a pair of machines
 SMTP, IMAP and POP3 with replicated state and one administration command, mpctl.
C
echo /etc/mailplusd/mailplusd.yaml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/postinst" <<'C'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	getent group mailplus >/dev/null || addgroup --system mailplus
	getent passwd mailplus >/dev/null || adduser --system --ingroup mailplus --home /var/lib/mailplusd --no-create-home --disabled-login mailplus
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl enable mailplusd >/dev/null 2>&1 || true
		systemctl restart mailplusd || true
	fi
fi
C
cat >"$root/DEBIAN/prerm" <<'C'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now mailplusd || true; fi
C
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
mkdir -p dist
dpkg-deb --root-owner-group --build "$root" "dist/mailplusd_${version}_${arch}.deb"
