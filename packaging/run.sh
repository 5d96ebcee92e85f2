#!/bin/sh
# Starts an aggregator and a relay on loopback from the binaries in the cargo target directory, and stops both on Ctrl-C.
#
# Data and logs are in .run/ of the checkout ($PICKET_RUN_DIR for another place) and are found again by the next run.
# Called by `make run`, which builds first.

set -eu

cd "$(dirname "$0")/.."
BIN=${CARGO_TARGET_DIR:-$HOME/.cache/picket/target}/debug
RUN=${PICKET_RUN_DIR:-$PWD/.run}
PAGES=http://127.0.0.1:8000
RELAY=http://127.0.0.1:3000
AGGREGATOR_PID=
RELAY_PID=

say() { printf 'run: %s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

aggregator() { "$BIN/picket-aggregator" --config "$RUN/aggregator.toml" "$@"; }
relay() { "$BIN/picket-relay" --config "$RUN/relay.toml" "$@"; }

# Value of a text key in one-key-a-line JSON.
json_value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# The relay first: what it has taken it keeps.
stop() {
    trap '' INT TERM
    if [ -n "$RELAY_PID$AGGREGATOR_PID" ]; then say 'stopping'; fi
    if [ -n "$RELAY_PID" ]; then kill -TERM "$RELAY_PID" 2>/dev/null || true; wait "$RELAY_PID" 2>/dev/null || true; fi
    if [ -n "$AGGREGATOR_PID" ]; then kill -TERM "$AGGREGATOR_PID" 2>/dev/null || true; wait "$AGGREGATOR_PID" 2>/dev/null || true; fi
}

# wait_for NAME PID URL LOG: until URL answers 200, the process ends, or a minute has passed.
wait_for() {
    tries=0
    until curl -fs -o /dev/null --max-time 2 "$3"; do
        kill -0 "$2" 2>/dev/null || { tail -n 15 "$4" >&2; fail "$1 ended; its log is $4"; }
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "$1 does not answer on $3; its log is $4"
        sleep 0.2
    done
}

[ -x "$BIN/picket-aggregator" ] && [ -x "$BIN/picket-relay" ] || fail "no binaries in $BIN; use \`make run\`"
mkdir -p "$RUN"
chmod 700 "$RUN"
cat > "$RUN/aggregator.toml" <<EOF
data_dir = "$RUN/aggregator"
listen = "127.0.0.1:8000"
public_url = "$PAGES"
relay_url = "$RELAY"
link_listen = "127.0.0.1:7443"
EOF
cat > "$RUN/relay.toml" <<EOF
data_dir = "$RUN/relay"
listen = "127.0.0.1:3000"
EOF

trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM
trap stop EXIT

say "preparing $RUN"
init=$(aggregator init --json) || fail 'init failed'
password=$(printf '%s\n' "$init" | tr ',' '\n' | json_value admin_password)
if [ -n "$password" ]; then
    (umask 077 && printf '%s\n' "$password" > "$RUN/admin-password")
fi

say 'starting the aggregator'
aggregator serve 2> "$RUN/aggregator.log" &
AGGREGATOR_PID=$!
wait_for 'the aggregator' "$AGGREGATOR_PID" http://127.0.0.1:8001/health "$RUN/aggregator.log"

dsn=$(aggregator project list --json | json_value dsn)
if [ -z "$dsn" ]; then
    dsn=$(aggregator project create demo --json | json_value dsn)
fi
if [ ! -d "$RUN/relay/identity" ]; then
    say 'joining the relay'
    token=$(aggregator relay invite --name demo --json | json_value token)
    relay join "$token" >&2
fi

say 'starting the relay'
relay run 2> "$RUN/relay.log" &
RELAY_PID=$!
wait_for 'the relay' "$RELAY_PID" "$RELAY/api/relay/healthcheck/ready/" "$RUN/relay.log"

key=${dsn#http://}
key=${key%%@*}
project=${dsn##*/}
cat <<EOF

Picket is running.

  pages     $PAGES/      (log in as admin, password $(cat "$RUN/admin-password" 2>/dev/null || echo 'as printed by the first run'))
  DSN       $dsn
  data      $RUN         (logs: aggregator.log, relay.log; \`make clean-run\` forgets everything)

Paste this into another terminal to send an error, then reload the page:

  curl $RELAY/api/$project/store/ -H 'X-Sentry-Auth: Sentry sentry_key=$key, sentry_version=7' \\
    -d '{"platform":"python","level":"error","exception":{"values":[{"type":"ZeroDivisionError","value":"division by zero","stacktrace":{"frames":[{"filename":"shop/cart.py","function":"average","lineno":7,"in_app":true,"context_line":"    return total / count"}]}}]}}'

or use any Sentry SDK:  pip install sentry-sdk, then

  python3 -c 'import sentry_sdk; sentry_sdk.init("$dsn"); 1 / 0'

Ctrl-C stops both.
EOF

# Ends when either process does; a signal interrupts the wait and runs the trap.
while kill -0 "$AGGREGATOR_PID" 2>/dev/null && kill -0 "$RELAY_PID" 2>/dev/null; do
    sleep 1 &
    wait $! || true
done
tail -n 5 "$RUN/aggregator.log" "$RUN/relay.log" >&2
fail 'one of the processes ended; its last lines are above'
