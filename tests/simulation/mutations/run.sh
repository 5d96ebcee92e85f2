#!/bin/sh
# Shows that the simulation finds what it is for: applies each mutation to a copy of the tree, builds nothing but the simulation, and
# demands that a seed fails. A mutation that does not apply any more, or does not build, is an error.
#
#   tests/simulation/mutations/run.sh [NAME…]       all of them, or those
#
# Each is a patch beside this file; its first line says what it breaks. Needs CARGO_TARGET_DIR (the Makefile sets it); what is not ours
# is taken from there as it is built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../../.." && pwd)
: "${CARGO_TARGET_DIR:=$HOME/.cache/picket/target}"
export CARGO_TARGET_DIR CARGO_INCREMENTAL=0
# Seeds within which a mutation must be found.
PICKET_SIM_SEEDS=${PICKET_SIM_SEEDS:-3000}
export PICKET_SIM_SEEDS

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT INT TERM
tar -C "$tree" --exclude=./.git --exclude=./target --exclude=./.run -cf - . | tar -C "$copy" -xf -

simulate() {
	(cd "$copy" && cargo test -q --workspace --exclude picket-tests --exclude picket-bench --test seeds whatever -- --nocapture)
}

[ $# -gt 0 ] || set -- $(cd "$here" && ls -- *.patch | sed 's/\.patch$//')
missed=0
for name in "$@"; do
	patch=$here/$name.patch
	(cd "$copy" && patch -s -p1 --fuzz=0 --no-backup-if-mismatch <"$patch") || { echo "mutations: $name does not apply any more" >&2; exit 2; }
	if simulate >"$copy/out" 2>&1; then
		echo "$name: NOT FOUND by $PICKET_SIM_SEEDS seeds" >&2
		missed=$((missed + 1))
	elif found=$(grep -m1 '^seed [0-9]* fails: ' "$copy/out"); then
		echo "$name: $found"
	else
		tail -n 40 "$copy/out" >&2
		echo "mutations: $name does not build" >&2
		exit 2
	fi
	(cd "$copy" && patch -s -R -p1 --fuzz=0 --no-backup-if-mismatch <"$patch")
done
[ "$missed" -eq 0 ]
