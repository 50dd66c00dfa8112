"""A takeover with a client that a public generator has made from the description of the API.

Usage: takeover.py FOLDER URL, with the folder that holds the generated package `generated`.
"""

import sys
import time
from datetime import datetime, timedelta, timezone

folder, url = sys.argv[1:]
sys.path.insert(0, folder)

from generated.api.client_sessions import delete_session, register_session, send_heartbeat
from generated.api.events import list_transitions
from generated.api.groups import delete_group, get_group, put_group
from generated.api.released_form import (
    add_client_session_on_premises,
    add_group_on_premises,
    list_client_sessions_on_premises,
    post_heartbeat_on_premises,
    remove_client_session_on_premises,
)
from generated.api.status import get_status
from generated.client import Client
from generated.models.client_role import ClientRole
from generated.models.client_session_registration import ClientSessionRegistration
from generated.models.error import Error
from generated.models.failover_heartbeat import FailoverHeartbeat
from generated.models.group_configuration import GroupConfiguration
from generated.models.released_heartbeat_body import ReleasedHeartbeatBody

# What is odd in a name has to be encoded.
PLACE = ("plant", "line 1", "pump &7%")
TIMEOUT_MS = 1_000
client = Client(base_url=url, raise_on_unexpected_status=True)


def beat(session, acting_as):
    """Sends a heartbeat; returns the role, the term, for how many ms it may be acted on, and the watermark."""
    now = datetime.now(timezone.utc)
    body = FailoverHeartbeat(percent_healthy_streams=99.5, heartbeat_time=now, last_data_send_time=now - timedelta(seconds=1))
    answer = send_heartbeat.sync_detailed(*PLACE, session, client=client, body=body, failover_role=acting_as)
    assert answer.status_code == 200, answer
    headers = answer.headers
    return answer.parsed.role, int(headers["failover-term"]), int(headers["failover-lease-ms"]), answer.parsed.last_data_send_time


assert put_group.sync(*PLACE, client=client, body=GroupConfiguration(name="Pump", milliseconds=TIMEOUT_MS)) == PLACE[2]
for session in ("a", "b"):
    assert register_session.sync(*PLACE, client=client, body=ClientSessionRegistration(id=session)) == session

role, first_term, lease_ms, _ = beat("a", ClientRole.SECONDARY)
assert (role, lease_ms) == (ClientRole.PRIMARY, TIMEOUT_MS), (role, lease_ms)
assert beat("a", ClientRole.PRIMARY)[:2] == (ClientRole.PRIMARY, first_term)
role, _, lease_ms, _ = beat("b", ClientRole.SECONDARY)
assert (role, lease_ms) == (ClientRole.SECONDARY, 0), (role, lease_ms)

# Now a falls silent, and b goes on.
began = time.monotonic()
while role != ClientRole.PRIMARY:
    assert time.monotonic() - began < 20, "b did not take over"
    time.sleep(0.1)
    role, term, lease_ms, watermark = beat("b", ClientRole(int(role)))
took = time.monotonic() - began
assert term > first_term, (term, first_term)
assert lease_ms == TIMEOUT_MS
# Up to where a had sent.
assert watermark.tzinfo is not None and watermark.year > 2000, watermark
assert beat("a", ClientRole.SECONDARY)[0] == ClientRole.SECONDARY

group = get_group.sync(*PLACE, client=client)
roles = {session: status.role for session, status in group.clients.additional_properties.items()}
assert roles == {"a": ClientRole.SECONDARY, "b": ClientRole.PRIMARY}, roles
assert group.failover_timeout == "00:00:01"
status = get_status.sync(*PLACE, client=client)
assert (status.primary, status.term, status.pending_primary) == ("b", term, None), status
changes = list_transitions.sync(*PLACE, client=client)
assert [(it.session_id, int(it.to)) for it in changes if it.to == ClientRole.PRIMARY] == [("b", 1), ("a", 1)], changes

refused = delete_group.sync_detailed(*PLACE, client=client)
assert refused.status_code == 409 and isinstance(refused.parsed, Error), refused
for session in ("a", "b"):
    assert delete_session.sync(*PLACE, session, client=client) == session
assert delete_group.sync(*PLACE, client=client) == PLACE[2]
print(f"b took over after {took:.2f} s, with term {term} after {first_term}")


def beat_released(session):
    """Sends a heartbeat in the released form; returns the role and the watermark."""
    sent_until = datetime.now(timezone.utc) - timedelta(seconds=1)
    body = ReleasedHeartbeatBody(failover_score=100, last_data_processed_time=sent_until)
    answer = post_heartbeat_on_premises.sync(GROUP, session, client=client, body=body)
    return answer.role, answer.last_data_processed_time


# The same in the released form, on the premises.
GROUP = "Pumpe 7 Süd"
created = add_group_on_premises.sync_detailed(client=client, body=GroupConfiguration(id=GROUP, failover_timeout="00:00:01"))
assert (created.status_code, created.parsed.failover_timeout) == (201, "00:00:01"), created
for session in ("a", "b"):
    registration = ClientSessionRegistration(id=session, name="an adapter")
    registered = add_client_session_on_premises.sync_detailed(GROUP, client=client, body=registration)
    assert (registered.status_code, registered.parsed.heartbeat_posted) == (201, False), registered
assert beat_released("a")[0] == ClientRole.PRIMARY
role, watermark = beat_released("b")
assert role == ClientRole.SECONDARY and watermark.tzinfo is not None, (role, watermark)
began = time.monotonic()
while role != ClientRole.PRIMARY:
    assert time.monotonic() - began < 20, "b did not take over"
    time.sleep(0.1)
    role, _ = beat_released("b")
sessions = list_client_sessions_on_premises.sync(GROUP, client=client)
assert {it.id: it.role for it in sessions} == {"a": ClientRole.SECONDARY, "b": ClientRole.PRIMARY}, sessions
assert sessions[1].heartbeat.failover_score == 100, sessions
assert remove_client_session_on_premises.sync_detailed(GROUP, "a", client=client).status_code == 204
print(f"on the premises b took over after {time.monotonic() - began:.2f} s")
