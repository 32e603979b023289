#!/usr/bin/env bash
# Runs every test that docs/reference/faults.md names, package by package:
#
#   scripts/test-faults.sh [flags of go test]
#
# Each package runs alone: its servers and the others' would share the cores.
set -euo pipefail
cd "$(dirname "$0")/.."

names=$(grep -oE '`[a-z0-9/]+\.Test[A-Za-z0-9]+`' docs/reference/faults.md | tr -d '`' | sort -u)
[[ -n $names ]] || { echo "docs/reference/faults.md names no tests" >&2; exit 1; }
failed=0
for package in $(sed 's/\.Test.*//' <<<"$names" | sort -u); do
	tests=$(awk -v p="$package" -F. '$1 == p { print $2 }' <<<"$names" | paste -sd '|')
	go test -tags faults -count 1 -timeout 15m -run "^($tests)\$" "$@" "./$package" || failed=1
done
exit "$failed"
