#!/usr/bin/env bash
# Whether the last release works on the tables of this version: during an upgrade its replicas do,
# and so does whoever goes back to it.
#
# Usage: tests/deploy/last_release.sh [--binary FILE] [--last FILE]
#
# FILE is this version's program (target/release/client-failover). The last release is the newest
# tag v* that is not on this commit, built from its own source in target/last-release, which takes
# as long as any first build; --last names its program instead. Where nothing has been released yet,
# that is said and the script ends with 0. Takes ten seconds after the build. Ends with 1 where the
# last release does not do what it did.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() { echo "usage: tests/deploy/last_release.sh [--binary FILE] [--last FILE]" >&2; exit 2; }
binary=target/release/client-failover
last=
while (($# > 0)); do
  case $1 in
    --binary) binary=${2:?--binary needs a file}; shift 2 ;;
    --last) last=${2:?--last needs a file}; shift 2 ;;
    *) usage ;;
  esac
done
[[ -x $binary ]] || { echo "last release: $binary is not an executable file" >&2; exit 2; }
name=$last

work=$(mktemp -d)
# The private PostgreSQL of root runs as another account.
chmod 711 "$work"
services=()
stop() {
  local service
  for service in "${services[@]}"; do kill "$service" 2>/dev/null || true; done
  for service in "${services[@]}"; do wait "$service" 2>/dev/null || true; done
  services=()
}
finish() {
  local result=$?
  trap - EXIT
  stop
  if ((result != 0)); then tail -n 20 "$work"/*.log >&2 || true; fi
  [[ ! -d $work/source ]] || git worktree remove --force "$work/source"
  rm -rf "$work"
  exit "$result"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [[ -z $last ]]; then
  name=$(git tag --list 'v[0-9]*' --no-contains HEAD --sort=-version:refname | sed -n 1p)
  if [[ -z $name ]]; then
    echo "last release: skipped: nothing has been released yet (no tag v* before this commit)"
    exit 0
  fi
  echo "last release: building $name"
  git worktree add --quiet --detach "$work/source" "$name"
  target=$PWD/target/last-release
  (cd "$work/source" && cargo build --quiet --locked --release --bin client-failover --target-dir "$target")
  last=$target/release/client-failover
fi

fail() { echo "last release: $*" >&2; exit 1; }

# Starts a program under a name and sets `url`. What follows are its arguments.
start() {
  local program=$1 name=$2
  shift 2
  "$program" serve --listen 127.0.0.1:0 "$@" >"$work/$name.said" 2>>"$work/$name.log" &
  services+=($!)
  for _ in $(seq 600); do
    url=$(sed -n 's/^listening on //p' "$work/$name.said")
    if [[ -n $url ]] && curl -fs -o /dev/null "$url/health/ready"; then return 0; fi
    kill -0 "${services[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  fail "the $name one is not ready: $(curl -s "${url:-}/health/ready" || true)"
}

groups=api/v1/tenants/t/namespaces/n/clientfailover/groups
send() { curl -fsS -X "$1" -H 'Content-Type: application/json' -d "$3" "$2" || fail "$1 $2"; }
# The role that a session is answered: 0 Secondary, 1 Primary, 2 PendingPrimary.
role() {
  send POST "$1/$groups/g/clientsessions/$2" '{"PercentHealthyStreams": 100}' \
    | sed -n 's/.*"Role": *\([0-9]\).*/\1/p'
}
expect() {
  local what=$1 wanted=$2 found=$3
  [[ $found == "$wanted" ]] || fail "$what: $found, and $wanted was expected"
}
# Heartbeats of b until it is Primary.
take_over() {
  for _ in $(seq 60); do
    [[ $(role "$1" b) != 1 ]] || return 0
    sleep 0.1
  done
  fail "nobody took over"
}

start "$binary" new --data-dir "$work/data"
new=$url
database=$(sed -n "s/^ *psql '\{0,1\}\([^' ]*\)'\{0,1\} -c .*/\1/p" "$work/new.said")
[[ -n $database ]] || fail "the banner does not name the database"
start "$last" last --database-url "$database"
old=$url

send PUT "$old/$groups/g" '{"Milliseconds": 2000}' >/dev/null
for session in a b; do send POST "$old/$groups/g/clientsessions" "{\"Id\": \"$session\"}" >/dev/null; done
expect "the first heartbeat, asked of the last release" 1 "$(role "$old" a)"
expect "a standby, asked of the last release" 0 "$(role "$old" b)"
expect "the Primary, asked of this version" 1 "$(role "$new" a)"
# a falls silent.
take_over "$old"
expect "the new Primary, asked of this version" 1 "$(role "$new" b)"
expect "the former Primary, asked of the last release" 0 "$(role "$old" a)"
send DELETE "$old/$groups/g/clientsessions/a" '' >/dev/null

# Going back: the last release alone.
stop
start "$last" last --data-dir "$work/data"
expect "the Primary, after going back" 1 "$(role "$url" b)"
echo "last release: ${name##*/} works on the tables of this version"
