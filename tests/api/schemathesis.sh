#!/usr/bin/env bash
# Has Schemathesis try a running service against its own description: some thousand requests, valid
# and invalid ones, each answer judged (status, headers, body, and whether it should have been
# refused at all). First a service that asks nobody who they are, then one that does, asked with
# credentials and without.
#
# Usage: tests/api/schemathesis.sh [--binary FILE] [--seconds N]
#
# Takes under two minutes. Schemathesis (PyPI, version 4) is looked for as `schemathesis` in
# $API_TOOLS, a folder, and in the PATH; where there is none, that is said and the script ends with
# 0, or with 1 where CI is set. Ends with 1 where something was found.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=target/release/client-failover
seconds=60
while (($# > 0)); do
  case $1 in
    --binary) binary=${2:?--binary needs a file}; shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    *) echo "usage: tests/api/schemathesis.sh [--binary FILE] [--seconds N]" >&2; exit 2 ;;
  esac
done
PATH=${API_TOOLS:+$API_TOOLS:}$PATH
if ! command -v schemathesis >/dev/null; then
  [[ -z ${CI:-} ]] || { echo "schemathesis: it is not installed" >&2; exit 1; }
  echo "schemathesis: skipped: it is not installed"
  exit 0
fi
[[ -x $binary ]] || { echo "schemathesis: $binary is not an executable file" >&2; exit 2; }

work=$(mktemp -d)
chmod 711 "$work"
service=
stop_service() {
  [[ -z $service ]] || { kill "$service" 2>/dev/null && wait "$service" || true; }
  service=
}
finish() {
  local result=$?
  trap - EXIT
  stop_service
  if ((result != 0)); then tail -20 "$work"/service.log; fi
  rm -rf "$work"
  exit "$result"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Starts a service on a database of its own and a free port, and sets `url`.
start_service() {
  "$binary" serve --listen 127.0.0.1:0 --data-dir "$work/data" "$@" >"$work/said" 2>>"$work/service.log" &
  service=$!
  for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$work/said")
    [[ -z $url ]] || return 0
    kill -0 "$service" 2>/dev/null || break
    sleep 0.1
  done
  echo "schemathesis: the service does not start" >&2
  exit 1
}

# The tool writes what it remembers into the folder it runs in.
try() {
  local config=$PWD/tests/api/programs/schemathesis.toml hooks=$PWD/tests/api/programs/hooks.py
  (cd "$work" && SCHEMATHESIS_HOOKS=$hooks schemathesis --no-color --config-file "$config" run "$url/openapi.json" "$@")
}

echo "== a service that asks nobody, ${seconds} s"
start_service
try --max-time "$seconds"
stop_service

echo "== a service that asks, by an administrator"
printf 'correct horse\n' | "$binary" users add --file "$work/users" --tenant '*' --role admin tester >/dev/null
start_service --auth basic --users-file "$work/users"
try --phases examples,coverage --auth 'tester:correct horse'

echo "== the same, by nobody"
try --phases examples
