#!/usr/bin/env python3
"""A whole adapter, with nothing but Python's standard library: of a group, one sends at a time.

    python3 adapter.py plant/line1/pump adapter-1 http://replica-1:8080 http://replica-2:8080

Each reads its source all the time and keeps what is not known to have been sent. The Primary sends
it, as one line of JSON each, with the term. After a takeover the next one goes on where the last one
stopped. An API key is taken from CLIENT_FAILOVER_TOKEN. SIGTERM ends it in order.
"""

import collections, datetime, json, os, random, signal, sys, threading, time
import urllib.error, urllib.parse, urllib.request

UTC = datetime.timezone.utc
NO_TIME = datetime.datetime.min.replace(tzinfo=UTC)


def clock():
    """A clock that nobody sets, and that goes on while the machine sleeps. In seconds."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Member:
    """One of a group. It heartbeats on a thread of its own, and knows until when it may act."""

    MARGIN = 0.05  # How much earlier than its lease it stops, in seconds.

    def __init__(self, urls, group, session, create_with=datetime.timedelta(seconds=2)):
        tenant, namespace, self.group = (urllib.parse.quote(name, safe="") for name in group.split("/"))
        below = f"/api/v1/tenants/{tenant}/namespaces/{namespace}/clientfailover/groups"
        self.urls = collections.deque(url.rstrip("/") + below for url in urls)
        self.session, self.create_with = session, create_with
        self.health, self.data_sent = 100, None
        self.sent_until = NO_TIME  # Up to when a Primary has sent, as the group knows it.
        self.acting = threading.Lock()  # Held by whoever acts: while it is, nobody says that we stopped.
        self.role, self.term, self.act_until, self.half = 0, 0, 0.0, 1.0
        self.is_registered, self.stop = False, threading.Event()
        self.heart = threading.Thread(target=self._beat, name="heart")
        self.heart.start()

    def act(self, work):
        """Calls work(term) if this one is Primary; whether it was. Short work only: it is not cut off."""
        with self.acting:
            if clock() >= self.act_until:
                return False
            work(self.term)
            return True

    def leave(self):
        """Stops, and says so: nobody waits for the lease."""
        with self.acting:
            self.stop.set()
            self.act_until = 0.0
        self.heart.join()
        if self.is_registered:
            self._ask("DELETE", f"/{self.group}/clientsessions/{urllib.parse.quote(self.session, safe='')}")

    def _ask(self, method, path, body=None, headers={}):
        headers = {"Content-Type": "application/json", **headers}
        if key := os.environ.get("CLIENT_FAILOVER_TOKEN"):
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(self.urls[0] + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=self.half * 0.9) as answer:
            return json.loads(answer.read() or b"{}"), answer.headers

    def _register(self):
        session = {"Id": self.session, "Name": self.session}
        try:
            self._ask("POST", f"/{self.group}/clientsessions", session)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            group = {"Id": urllib.parse.unquote(self.group), "FailoverTimeout": str(self.create_with)}
            self._ask("POST", "", group)
            self._ask("POST", f"/{self.group}/clientsessions", session)
        self.is_registered = True

    def _beat(self):
        while not self.stop.is_set():
            sent_at = clock()  # A lease counts from before its heartbeat leaves.
            try:
                if not self.is_registered:
                    self._register()
                    sent_at = clock()
                pause = self._heartbeat(sent_at)
            except Exception as error:  # Whatever it is: the heart goes on.
                pause = self._failed(error)
                print(f"{self.session}: {error!r}", file=sys.stderr)
            self.stop.wait(max(0.0, sent_at + pause * random.uniform(0.9, 1.0) - clock()))

    def _failed(self, error):
        if getattr(error, "code", None) == 404:  # Deleted: stop at once, and register again.
            with self.acting:
                self.role, self.act_until, self.is_registered = 0, 0.0, False
            return self.half / 5
        self.urls.rotate(-1)  # Whatever ails this one need not ail another.
        try:
            return min(self.half, max(self.half / 5, float(error.headers["Retry-After"])))
        except (AttributeError, TypeError, ValueError):
            return self.half

    def _heartbeat(self, sent_at):
        with self.acting:  # Nobody acts in a role that this does not say.
            role = 0 if self.role == 1 and sent_at >= self.act_until else self.role
            if role != 1:
                self.act_until = 0.0
        now = datetime.datetime.now(UTC)
        body = {"PercentHealthyStreams": self.health, "HeartbeatTime": now.isoformat()}
        if self.data_sent:
            body["LastDataSendTime"] = self.data_sent.isoformat()
        said = {"Failover-Role": str(role), "Failover-Term": str(self.term)}
        path = f"/{self.group}/clientsessions/{urllib.parse.quote(self.session, safe='')}"
        answer, told = self._ask("POST", path, body, said)
        # All of it is read before any of it is believed.
        new_role, term, lease = int(answer["Role"]), int(told["Failover-Term"]), int(told["Failover-Lease-Ms"]) / 1000
        half, sent_until = int(told["Failover-Timeout-Ms"]) / 2000, read_time(answer.get("LastDataSendTime"))
        with self.acting:
            self.role, self.term, self.half = new_role, term, half
            may_act = new_role == 1 and not self.stop.is_set()
            self.act_until = sent_at + lease - min(self.MARGIN, lease / 4) if may_act else 0.0
            self.sent_until = max(self.sent_until, sent_until)
        if new_role == 2:
            return half / 10  # The sooner it asks, the sooner it is Primary.
        return 0.0 if role == 1 and new_role != 1 else half  # The other waits for that word.


def read_time(text):
    if not text or text.startswith("0001"):
        return NO_TIME
    # Python before 3.11 reads neither a Z nor more than six digits.
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}").replace(tzinfo=UTC)


def main(group, session, *urls):
    kept = collections.deque(maxlen=10_000)

    def drop_what_was_sent():
        while kept and kept[0][0] <= member.sent_until:
            kept.popleft()

    def send(term):
        """Sends what is left: half a second of it at a time, so that no lease ends meanwhile."""
        drop_what_was_sent()  # By another, before this one was Primary.
        for _ in range(min(len(kept), 10)):
            at, value = kept[0]
            print(json.dumps({"at": at.isoformat(), "value": value, "session": session, "term": term}), flush=True)
            kept.popleft()
            member.data_sent = at

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    member = Member(urls or ["http://127.0.0.1:8080"], group, session)
    try:
        while True:
            kept.append((datetime.datetime.now(UTC), random.random()))  # Here: read your source.
            if not member.act(send):
                drop_what_was_sent()
            time.sleep(0.05)
    finally:
        member.leave()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
