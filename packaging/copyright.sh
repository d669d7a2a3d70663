#!/bin/sh
# Prints who holds the rights in the programs: this project, and the modules compiled in, each text once.
set -eu
echo "mailplusd and mpctl: copyright the mailplusd developers."
echo "The source carries no licence text of its own; ask the developers before passing it on."
echo
echo "Compiled in, under the terms below:"
list=$(mktemp)
texts=$(mktemp -d)
trap 'rm -rf "$list" "$texts"' EXIT
go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/mailplusd ./cmd/mpctl | sort -u >"$list"
while read -r path version dir; do
	found=
	for f in "$dir"/LICEN[SC]E* "$dir"/[Ll]icen[sc]e* "$dir"/UNLICENSE* "$dir"/COPYING* "$dir"/NOTICE*; do
		[ -f "$f" ] || continue
		sum=$(sha256sum <"$f" | cut -d ' ' -f 1)
		[ -f "$texts/$sum" ] || cp "$f" "$texts/$sum"
		echo "  $path $version" >>"$texts/$sum.of"
		found=1
	done
	[ -n "$found" ] || echo "  $path $version: the module brings no text of its own; see its repository"
done <"$list"
echo "  The Go standard library $(go env GOVERSION)" >"$texts/go.of"
cp "$(go env GOROOT)/LICENSE" "$texts/go"
for of in "$texts"/*.of; do
	printf '\n%s\n' "----------------------------------------------------------------------"
	cat "$of"
	echo
	if grep -q "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" "${of%.of}"; then
		echo "Apache License, version 2.0: see /usr/share/common-licenses/Apache-2.0"
		grep -i '^ *copyright [0-9(]' "${of%.of}" || true
	else
		cat "${of%.of}"
	fi
done
