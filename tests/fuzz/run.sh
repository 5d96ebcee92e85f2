#!/bin/sh
# Runs a fuzz target: run.sh TARGET [SECONDS] [libFuzzer's options]. Needs the stable compiler and nothing else.
#
#   run.sh json           10 minutes
#   run.sh envelope 300   5 minutes
#   run.sh all 600        each target for 10 minutes, one after the other
#
# The coverage flags are those of cargo-fuzz, without a sanitizer: that would need a nightly compiler, and there is no unsafe code here.
# Found inputs are kept in corpus/TARGET, one that breaks something is written to artifacts/ and its path printed. With an artifact's
# path in place of SECONDS that input alone is run.

set -eu
cd "$(dirname "$0")"

[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
target=$1 limit=${2:-600}
shift
[ $# -eq 0 ] || shift

# Given for a platform by name, so that build scripts and macros are built without them.
platform=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing'
export RUSTFLAGS
: "${CARGO_TARGET_DIR:=${HOME}/.cache/picket/target/fuzz}"
export CARGO_TARGET_DIR

targets() { sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml; }

# build TARGET: prints the path of its program.
build() {
    cargo build --quiet --release --target "$platform" --bin "$1"
    echo "$CARGO_TARGET_DIR/$platform/release/$1"
}

# fuzz TARGET OPTION…: seeds/TARGET is read, where there is one; corpus/TARGET is read and written.
fuzz() {
    name=$1
    shift
    mkdir -p "corpus/$name" artifacts
    program=$(build "$name")
    [ ! -d "seeds/$name" ] || set -- "$@" "seeds/$name"
    "$program" -artifact_prefix="artifacts/$name-" -timeout=10 -rss_limit_mb=1024 -max_total_time="$limit" "corpus/$name" "$@"
}

if [ -f "$limit" ]; then
    "$(build "$target")" -timeout=10 "$limit"
elif [ "$target" = all ]; then
    for each in $(targets); do
        echo "fuzz: $each" >&2
        fuzz "$each" "$@"
    done
else
    fuzz "$target" "$@"
fi
