#!/usr/bin/env bash
# Runs every fuzz target of the given packages for FUZZTIME (30s) each; go test
# takes one target at a time.
set -euo pipefail

while read -r package; do
	while read -r target; do
		echo "== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" "$package"
	done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$@" | grep .)
