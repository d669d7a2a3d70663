#!/bin/sh
# Runs every fuzz target for the given time, one after the other.
set -eu
time=${1:-30s}
for pkg in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" 2>/dev/null | grep '^Fuzz' || true); do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel 2 "$pkg"
	done
done
