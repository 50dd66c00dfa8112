#!/bin/bash
# Proves the stack of docker-compose.yml on a real engine: takeover through the proxy, a replica
# killed, a rolling restart, the database restarted, all of it under heartbeats every 100 ms from
# several groups of two clients with a failover timeout of one second.
#
# Usage: tests/deploy/compose.sh [--binary FILE]
#
# Without --binary the image is built from source as a user would, which takes minutes and needs the
# network. With it, FILE (a release build for Debian 12) is packed, and the Dockerfile's image made
# of that package.
#
# Takes about a minute and a quarter after the build, uses a project name, a port, a volume and
# images of its own and removes them. Ends with 0 where everything held or there is no engine to try
# it on, which it says, and with 1 otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=
case ${1:-} in
  --binary) binary=${2:?--binary needs a file} ;;
  '') ;;
  *) echo "usage: tests/deploy/compose.sh [--binary FILE]" >&2; exit 2 ;;
esac
[[ -z $binary || -x $binary ]] || { echo "compose: $binary is not an executable file" >&2; exit 2; }

skip() { echo "compose: skipped: $*"; exit 0; }
command -v docker >/dev/null || skip "docker is not installed"
timeout 20 docker info >/dev/null 2>&1 || skip "no Docker engine answers"
if docker compose version >/dev/null 2>&1; then compose='docker compose'
elif command -v docker-compose >/dev/null; then compose=docker-compose
else skip "neither docker compose nor docker-compose is installed"; fi
command -v python3 >/dev/null || skip "python3 is not installed"
# Not those of monitoring, which is not started here, and not the builder's, which a build fetches
# for itself.
images=$(sed -n '/^x-images:/,/^$/s/.*:-\(.*\)}$/\1/p' docker-compose.yml | grep -v -e / -e '^rust:')
for image in $images; do
  docker image inspect "$image" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$image" >/dev/null 2>&1 || skip "the image $image is not here and cannot be pulled"
done

export COMPOSE_PROJECT_NAME=client-failover-test-$$
export CLIENT_FAILOVER_IMAGE=$COMPOSE_PROJECT_NAME:test
CLIENT_FAILOVER_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export CLIENT_FAILOVER_PORT
work=$(mktemp -d)

finish() {
  local result=$?
  trap - EXIT
  if ((result != 0)); then $compose logs --no-color --tail=40 2>&1 | sed 's/^/    /'; fi
  $compose down --volumes --timeout 10 >/dev/null 2>&1 || true
  docker rmi "$CLIENT_FAILOVER_IMAGE" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$result"
}
trap finish EXIT
trap 'exit 130' INT TERM

build() { docker build "$@" >"$work/build.log" 2>&1 || { tail -40 "$work/build.log"; exit 1; }; }

echo "compose: building"
if [[ -n $binary ]]; then
  # The Dockerfile without its stages that build, on a package of that binary.
  deploy/packages/build "$binary" "$work/context/packages" deb >/dev/null
  awk '/^FROM / { left_out = / AS (manifests|build)$/ } !left_out' Dockerfile |
    sed 's#^COPY --from=build /src/target/packages #COPY packages #' >"$work/context/Dockerfile"
  build --tag "$CLIENT_FAILOVER_IMAGE" "$work/context"
else
  build --tag "$CLIENT_FAILOVER_IMAGE" .
fi

echo "compose: starting"
$compose up --detach --no-build >"$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }

COMPOSE=$compose timeout --kill-after=5 150 python3 - <<'PYTHON'
import collections, http.client, json, os, subprocess, sys, threading, time

PORT = int(os.environ["CLIENT_FAILOVER_PORT"])
COMPOSE = os.environ["COMPOSE"].split()
TIMEOUT_S = 1.0  # the groups' failover timeout
EVERY_S = 0.1
GROUPS = [f"line-{n}" for n in range(1, 7)]
# As in the field, the fixed words of the path are written in more than one way.
PATH = "/api/v1/Tenants/compose/Namespaces/test/ClientFailover/Groups/"
PRIMARY = 1

def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout

def container(service):
    return run(*COMPOSE, "ps", "-q", service).strip()

def call(method, path, body=None, connection=None):
    """One request; the connection is made for it unless one is given."""
    own = connection or http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    try:
        own.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        answer = own.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        if connection is None:
            own.close()

PROXY = container("proxy")

def replicas():
    """What the proxy says of each replica: state, and requests it has sent there."""
    text = run("docker", "exec", PROXY, "bash", "-c",
               'exec 3<>/dev/tcp/127.0.0.1/8404 && printf "GET /;csv HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3')
    lines = text[text.index("# pxname"):].splitlines()
    names = lines[0].lstrip("# ").split(",")
    rows = [dict(zip(names, line.split(","))) for line in lines[1:]]
    return {row["svname"]: (row["status"], int(row["stot"])) for row in rows
            if row["pxname"] == "replicas" and row["svname"] != "BACKEND"}

def wait_until(what, holds, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except (OSError, http.client.HTTPException, RuntimeError, ValueError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{what}: not within {seconds} s")

def both_up():
    return [state for state, _ in replicas().values()] == ["UP", "UP"]

def transitions():
    """Every change of a role that the database knows of, in order."""
    return json.loads(run(*COMPOSE, "exec", "-T", "postgres", "psql", "-U", "client_failover", "-d", "client_failover", "-Atc",
                          "SELECT coalesce(json_agg(row_to_json(t) ORDER BY t.recorded_at), '[]') FROM role_transitions t"))

Beat = collections.namedtuple("Beat", "group session sent answered status role term fault")

class Client(threading.Thread):
    """Heartbeats on one kept connection, and remembers every answer."""

    def __init__(self, group, session):
        super().__init__(daemon=True)
        self.group, self.session, self.beats, self.sending = group, session, [], threading.Event()
        self.path = f"{PATH}{group}/ClientSessions/{session}"

    def role(self):
        return self.beats[-1].role if self.beats else None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        while True:
            self.sending.wait()
            due = time.monotonic() + EVERY_S
            self.beats.append(self.beat(connection))
            time.sleep(max(0.0, due - time.monotonic()))

    def beat(self, connection):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sent, role, term, fault = time.monotonic(), None, None, None
        try:
            status, headers, text = call("POST", self.path, {"PercentHealthyStreams": 100, "HeartbeatTime": now, "LastDataSendTime": now}, connection)
            if status == 200:
                role, term = json.loads(text)["Role"], int(headers["Failover-Term"])
            else:
                body = json.loads(text)
                fault = str(body.get("Reason"))
                if set(body) != {"OperationId", "Error", "Reason", "Resolution"} or (status == 503 and not headers["Retry-After"]):
                    status = f"{status} in the wrong shape"
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            connection.close()
            status, fault = type(error).__name__, str(error)
        return Beat(self.group, self.session, sent, time.monotonic(), status, role, term, fault)

clients = [Client(group, f"{group}-{which}") for group in GROUPS for which in "ab"]

def primaries():
    """By group: who is Primary by its own last answer, and in which term."""
    found = collections.defaultdict(list)
    for client in clients:
        if client.role() == PRIMARY:
            found[client.group].append((client.session, client.beats[-1].term))
    return dict(found)

results = []

class Part:
    """One part of the test: what was asked of the service meanwhile, and what did not hold."""

    def __init__(self, name):
        self.name, self.wrong, self.notes = name, [], []

    def __enter__(self):
        self.begun, self.before, self.roles = time.monotonic(), len(transitions()), primaries()
        return self

    def check(self, holds, otherwise):
        if not holds:
            self.wrong.append(otherwise)

    def beats(self):
        return [beat for client in clients for beat in list(client.beats) if beat.sent >= self.begun]

    def failed(self):
        return [beat for beat in self.beats() if beat.status != 200]

    def no_failed_request(self):
        self.check(not self.failed(), f"failed requests: {[(b.session, b.status, b.fault) for b in self.failed()[:3]]}")

    def no_role_change(self):
        new = transitions()[self.before:]
        self.check(not new, f"role changes: {[(t['session_id'], t['from_role'], t['to_role'], t['reason']) for t in new]}")
        self.check(primaries() == self.roles, f"another Primary or term: {self.roles} before, {primaries()} after")

    def __exit__(self, kind, error, trace):
        if kind and not issubclass(kind, Exception):
            return False
        if error:
            self.wrong.append(str(error))
        beats, failed = self.beats(), collections.Counter(str(beat.status) for beat in self.failed())
        slowest = max((beat.answered - beat.sent for beat in beats if beat.status == 200), default=0)
        changes = len(transitions()) - self.before
        print(f"{'ok  ' if not self.wrong else 'FAIL'} {self.name}: {len(beats)} heartbeats, {sum(failed.values())} failed"
              f"{' ' + str(dict(failed)) if failed else ''}, slowest good one {slowest * 1000:.0f} ms, {changes} role changes recorded"
              f"{''.join('; ' + note for note in self.notes)}", flush=True)
        for wrong in self.wrong:
            print(f"     {wrong}", flush=True)
        results.append(not self.wrong)
        return True

def wait_for_recovery(part):
    """Nothing but 503 while the database is away, and afterwards the roles of before."""
    back = time.monotonic()
    wait_until("every client answered again", lambda: all(c.beats[-1].status == 200 and c.beats[-1].sent > back for c in clients), 30)
    part.notes.append(f"all clients served {time.monotonic() - back:.1f} s after it was started")
    time.sleep(3)
    others = [beat for beat in part.failed() if beat.status != 503]
    part.check(not others, f"other failures than 503: {[(b.session, b.status, b.fault) for b in others[:3]]}")
    part.no_role_change()

def main():
    wait_until("both replicas ready behind the proxy", lambda: both_up() and call("GET", "/health/ready")[0] == 200, 60)
    for group in GROUPS:
        assert call("PUT", PATH + group, {"Name": group, "FailoverTimeout": "00:00:01"})[0] == 200, group
    for client in clients:
        assert call("POST", f"{PATH}{client.group}/ClientSessions", {"Id": client.session})[0] == 200, client.session
    for client in clients:
        client.start()
        client.sending.set()
    wait_until("one Primary in each group", lambda: [len(found) for found in primaries().values()] == [1] * len(GROUPS), 5)

    with Part("takeover when a Primary falls silent") as part:
        sent_before = replicas()
        silent = next(c for c in clients if c.group == GROUPS[0] and c.role() == PRIMARY)
        standby = next(c for c in clients if c.group == GROUPS[0] and c is not silent)
        silent.sending.clear()
        wait_until("the standby's promotion", lambda: standby.role() == PRIMARY, 5)
        last = max(beat.sent for beat in silent.beats if beat.role == PRIMARY)
        took = next(beat.answered for beat in standby.beats if beat.role == PRIMARY) - last
        part.notes.append(f"standby Primary {took:.2f} s after the last heartbeat of the silent one")
        # Not before the silent one has to have stopped acting, and within the one and a half
        # timeouts that are promised.
        part.check(TIMEOUT_S <= took <= 1.5 * TIMEOUT_S, f"the takeover took {took:.2f} s")
        silent.sending.set()
        time.sleep(1.5)
        part.check(silent.role() != PRIMARY and standby.role() == PRIMARY, "the Primary changed again when the silent one came back")
        new = transitions()[part.before:]
        part.check({t["session_id"] for t in new} == {silent.session, standby.session}, f"role changes of others: {new}")
        part.no_failed_request()
        share = {name: sent - sent_before[name][1] for name, (_, sent) in replicas().items()}
        part.notes.append("heartbeats per replica " + ", ".join(f"{name} {sent}" for name, sent in share.items()))
        # Groups are spread over the replicas by their names, and these names fall on both.
        part.check(min(share.values()) > 0, "one replica had no heartbeat")

    with Part("a replica killed") as part:
        victim = max(replicas().items(), key=lambda item: item[1][1])[0]
        run("docker", "kill", "--signal", "KILL", container(victim))
        wait_until(f"the proxy noticing that {victim} is dead", lambda: replicas()[victim][0].startswith("DOWN"), 10)
        time.sleep(4)
        run("docker", "start", container(victim) or run(*COMPOSE, "ps", "-aq", victim).strip())
        wait_until(f"{victim} back", both_up, 30)
        time.sleep(2)
        part.notes.append(f"{victim} was the one with more of the groups")
        part.no_failed_request()
        part.no_role_change()

    with Part("rolling restart") as part:
        old = {name: container(name) for name in replicas()}
        run("deploy/rolling-restart")
        time.sleep(2)
        part.check(all(container(name) != old[name] for name in old), "a replica is still the old container")
        part.no_failed_request()
        part.no_role_change()

    with Part("the database restarted") as part:
        run("docker", "restart", container("postgres"))
        wait_for_recovery(part)

    with Part("the database away for some seconds") as part:
        run(*COMPOSE, "stop", "postgres")
        time.sleep(4)
        run(*COMPOSE, "start", "postgres")
        wait_for_recovery(part)

    with Part("never two acting Primaries, in all of the above") as part:
        part.begun = 0.0
        part.before = 0
        for group in GROUPS:
            granted = sorted((beat for client in clients if client.group == group for beat in list(client.beats) if beat.role == PRIMARY),
                             key=lambda beat: beat.answered)
            latest = {}
            for beat in granted:
                for session, sent in latest.items():
                    overlap = sent + TIMEOUT_S - beat.answered
                    part.check(session == beat.session or overlap <= 0, f"{beat.session} was told Primary {overlap * 1000:.0f} ms before {session} had to stop")
                latest[beat.session] = max(beat.sent, latest.get(beat.session, 0))
            part.check(all(earlier.term <= later.term for earlier, later in zip(granted, granted[1:])), f"{group}: the term went back")

try:
    main()
except Exception as error:
    print(f"FAIL {type(error).__name__}: {error}", flush=True)
    results.append(False)
print(f"compose: {results.count(True)} passed, {results.count(False)} failed")
sys.exit(0 if all(results) else 1)
PYTHON
