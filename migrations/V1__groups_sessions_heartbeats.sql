-- The whole state of the service. Instants are this server's clock unless a comment says otherwise. The group's key comes
-- first in every primary key and nothing unique crosses groups, so that the tables can be spread by that one column.

CREATE TABLE groups (
    group_key uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    name text,
    description text,
    failover_timeout_ticks bigint NOT NULL,
    term bigint NOT NULL DEFAULT 0,
    vacancy text NOT NULL DEFAULT 'never_held',
    watermark_base_at timestamptz,
    handover_from text COLLATE "C",
    handover_until timestamptz,
    handover_heard_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    configured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The key is computed from the path, so this is also what makes a path name one group.
    CONSTRAINT groups_one_row_per_path PRIMARY KEY (group_key),
    CONSTRAINT groups_timeout_between_100_ms_and_24_h
        CHECK (failover_timeout_ticks BETWEEN 1000000 AND 864000000000),
    CONSTRAINT groups_times_are_finite CHECK (
        isfinite(watermark_base_at) AND isfinite(handover_until) AND isfinite(handover_heard_until)),
    CONSTRAINT groups_term_never_negative CHECK (term >= 0),
    CONSTRAINT groups_vacancy_is_known CHECK (vacancy IN ('never_held', 'lapsed', 'yielded', 'deleted')),
    -- A handover is open with all it needs, or not at all.
    CONSTRAINT groups_handover_is_whole CHECK (num_nulls(handover_from, handover_until, handover_heard_until) IN (0, 3))
) WITH (fillfactor = 70);

-- Not unique: the key is. It serves lists, which are in order of the id's bytes.
-- By a hash of where they are: an index entry has room for one id of 260 characters of four bytes, but not for three.
CREATE INDEX groups_by_path ON groups (hashtextextended(tenant_id || '/' || namespace_id, 0), group_id);

COMMENT ON TABLE groups IS 'A failover group: its configuration, and what its sessions share.';
COMMENT ON COLUMN groups.group_key IS 'UUID version 5 of tenant, namespace and group id, computed by the service from the path.';
COMMENT ON COLUMN groups.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN groups.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN groups.group_id IS 'The group id in the path.';
COMMENT ON COLUMN groups.name IS 'A name for people.';
COMMENT ON COLUMN groups.description IS 'A description for people.';
COMMENT ON COLUMN groups.failover_timeout_ticks IS 'How long a heartbeat keeps its session live, in ticks of 100 ns.';
COMMENT ON COLUMN groups.term IS 'How often Primary was granted to a session that did not hold it; never falls.';
COMMENT ON COLUMN groups.vacancy IS 'Why nobody holds Primary (without meaning while somebody does).';
COMMENT ON COLUMN groups.watermark_base_at IS 'What deleted sessions contributed to the watermark; the watermark itself is in group_status.';
COMMENT ON COLUMN groups.handover_from IS 'The session that yielded and may not have heard of it; null when no handover is open.';
COMMENT ON COLUMN groups.handover_until IS 'The end of the lease that it held before; nobody else is granted Primary until then, or until it acknowledges.';
COMMENT ON COLUMN groups.handover_heard_until IS 'Its heard_until when it yielded; an acknowledgement that was not sent after that is not believed.';
COMMENT ON COLUMN groups.created_at IS 'When the group was created.';
COMMENT ON COLUMN groups.configured_at IS 'When its configuration last changed.';

CREATE TABLE sessions (
    group_key uuid NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    name text,
    role smallint NOT NULL DEFAULT 0,
    role_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT sessions_one_row_per_session PRIMARY KEY (group_key, session_id),
    CONSTRAINT sessions_belong_to_a_group FOREIGN KEY (group_key) REFERENCES groups (group_key) ON DELETE CASCADE,
    CONSTRAINT sessions_role_is_known CHECK (role IN (0, 1, 2))
) WITH (fillfactor = 80);

-- The two promises that the service's own decisions must never break, kept by the database as well.
CREATE UNIQUE INDEX sessions_at_most_one_primary ON sessions (group_key) WHERE role = 1;
CREATE UNIQUE INDEX sessions_at_most_one_pending_primary ON sessions (group_key) WHERE role = 2;

COMMENT ON TABLE sessions IS 'A client registered in a group, and the role it was last told (or that was taken from it since).';
COMMENT ON COLUMN sessions.group_key IS 'The group.';
COMMENT ON COLUMN sessions.session_id IS 'The session id in the path.';
COMMENT ON COLUMN sessions.name IS 'A name for people.';
COMMENT ON COLUMN sessions.role IS '0 Secondary, 1 Primary, 2 PendingPrimary. As stored: session_status has the role that is true now.';
COMMENT ON COLUMN sessions.role_changed_at IS 'When the role last changed.';
COMMENT ON COLUMN sessions.registered_at IS 'When the session registered; of equals in rank the earliest is first.';

CREATE TABLE heartbeats (
    group_key uuid NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    percent_healthy_streams numeric NOT NULL,
    heartbeat_time timestamptz NOT NULL,
    last_data_send_time timestamptz,
    received_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    heard_until timestamptz NOT NULL,
    primary_sent_until timestamptz,
    CONSTRAINT heartbeats_one_row_per_session PRIMARY KEY (group_key, session_id),
    CONSTRAINT heartbeats_belong_to_a_session FOREIGN KEY (group_key, session_id)
        REFERENCES sessions (group_key, session_id) ON DELETE CASCADE,
    CONSTRAINT heartbeats_times_are_finite CHECK (
        isfinite(heartbeat_time) AND isfinite(last_data_send_time) AND isfinite(received_at) AND isfinite(lease_until)
        AND isfinite(heard_until) AND isfinite(primary_sent_until)),
    CONSTRAINT heartbeats_health_is_a_percentage CHECK (percent_healthy_streams BETWEEN 0 AND 100)
-- Updated all the time: half of each page is left free, and no changing column has an index, so that an update stays
-- on its page and touches no index (HOT).
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE heartbeats IS 'The latest heartbeat of each session that has sent one.';
COMMENT ON COLUMN heartbeats.group_key IS 'The group.';
COMMENT ON COLUMN heartbeats.session_id IS 'The session.';
COMMENT ON COLUMN heartbeats.percent_healthy_streams IS 'The health it reported, 0 to 100, exactly as reported.';
COMMENT ON COLUMN heartbeats.heartbeat_time IS 'When the client sent it, by the client''s clock; the time of receipt where it did not say.';
COMMENT ON COLUMN heartbeats.last_data_send_time IS 'The time of the last data it sent, as reported; null for none.';
COMMENT ON COLUMN heartbeats.received_at IS 'When it arrived.';
COMMENT ON COLUMN heartbeats.lease_until IS 'The end of the lease it gave: the session is live before that. An outage of the service extends it, see lease_end().';
COMMENT ON COLUMN heartbeats.heard_until IS 'By the client''s clock: up to then, a heartbeat that says "I act as Secondary" may be an old message, delayed or repeated.';
COMMENT ON COLUMN heartbeats.primary_sent_until IS 'The latest time of data that the session reported while Primary: its part of the watermark.';

CREATE TABLE role_transitions (
    group_key uuid NOT NULL,
    transition_id bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    from_role smallint NOT NULL,
    to_role smallint NOT NULL,
    term bigint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT role_transitions_in_order_of_their_group PRIMARY KEY (group_key, transition_id),
    CONSTRAINT role_transitions_change_something CHECK (from_role <> to_role),
    CONSTRAINT role_transitions_roles_are_known CHECK (from_role IN (0, 1, 2) AND to_role IN (0, 1, 2)),
    CONSTRAINT role_transitions_reason_is_known CHECK (reason IN (
        'first_heartbeat', 'lease_lapsed', 'healthier', 'yielded', 'handover_completed', 'recovered',
        'session_deleted', 'superseded', 'override', 'override_ended')),
    CONSTRAINT role_transitions_actor_is_known CHECK (actor IN ('heartbeat', 'sweep', 'operator'))
);

-- For "what happened last night" over all groups; rows arrive in order of time, so a block index is enough.
CREATE INDEX role_transitions_by_time ON role_transitions USING brin (recorded_at);

COMMENT ON TABLE role_transitions IS 'Every change of a role, written in the transaction that made it. Rows outlive their group.';
COMMENT ON COLUMN role_transitions.group_key IS 'The group.';
COMMENT ON COLUMN role_transitions.transition_id IS 'Rises with time within a group.';
COMMENT ON COLUMN role_transitions.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN role_transitions.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN role_transitions.group_id IS 'The group id in the path.';
COMMENT ON COLUMN role_transitions.session_id IS 'The session whose role changed.';
COMMENT ON COLUMN role_transitions.from_role IS 'The role before: 0 Secondary, 1 Primary, 2 PendingPrimary.';
COMMENT ON COLUMN role_transitions.to_role IS 'The role after.';
COMMENT ON COLUMN role_transitions.term IS 'The group''s term after the change.';
COMMENT ON COLUMN role_transitions.reason IS 'Why: one of a closed list.';
COMMENT ON COLUMN role_transitions.actor IS 'What made the change: a heartbeat, the sweep, or an operator (deletion).';
COMMENT ON COLUMN role_transitions.recorded_at IS 'The instant the change was decided at.';

-- One row, rewritten several times a second by each replica, outside serializable isolation: heartbeats read it, and
-- a serializable writer of it would conflict with every one of them.
CREATE TABLE service_liveness (
    only_row boolean NOT NULL DEFAULT true,
    alive_at timestamptz NOT NULL,
    CONSTRAINT service_liveness_has_one_row PRIMARY KEY (only_row),
    CONSTRAINT service_liveness_only_row_is_true CHECK (only_row)
) WITH (fillfactor = 10);

INSERT INTO service_liveness (alive_at) VALUES (clock_timestamp());

COMMENT ON TABLE service_liveness IS 'When any replica last reached this database.';
COMMENT ON COLUMN service_liveness.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN service_liveness.alive_at IS 'The last sign of life of any replica.';

CREATE TABLE service_outages (
    outage_id bigint GENERATED ALWAYS AS IDENTITY,
    began_at timestamptz NOT NULL,
    recovered_at timestamptz NOT NULL,
    counts_from interval NOT NULL DEFAULT '2 s',
    CONSTRAINT service_outages_one_row_per_outage PRIMARY KEY (outage_id),
    CONSTRAINT service_outages_end_after_they_began CHECK (recovered_at > began_at)
);

COMMENT ON TABLE service_outages IS 'Times in which no replica reached this database, so that no client could renew its lease. Short ones are kept while they matter, others for a week, the latest 100.';
COMMENT ON COLUMN service_outages.counts_from IS 'The outage gap: an outage counts for every lease if it lasted longer, and for a short lease if it lasted longer than a quarter of it.';
COMMENT ON COLUMN service_outages.outage_id IS 'Rises with time.';
COMMENT ON COLUMN service_outages.began_at IS 'The last sign of life before it.';
COMMENT ON COLUMN service_outages.recovered_at IS 'The first sign of life after it.';

-- One statement, so that a replica that is paused in the middle holds no lock while it sleeps.
CREATE FUNCTION note_service_alive(outage_gap interval, shortest_outage interval) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    previous timestamptz;
    present timestamptz;
BEGIN
    SELECT alive_at INTO STRICT previous FROM service_liveness FOR UPDATE;
    present := greatest(clock_timestamp(), previous);
    -- Signs of life are many and need not survive a crash: without the last of them the outage only begins earlier.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF present - previous > least(outage_gap, shortest_outage) THEN
        INSERT INTO service_outages (began_at, recovered_at, counts_from) VALUES (previous, present, outage_gap);
        -- Every heartbeat reads those that are kept. One that is shorter than the gap matters only to leases given for less
        -- than four times its length, and to these no longer once four gaps have passed.
        DELETE FROM service_outages
        WHERE recovered_at < present - interval '7 days'
            OR (recovered_at - began_at <= counts_from AND recovered_at < present - 4 * counts_from);
        DELETE FROM service_outages
        WHERE outage_id <= (SELECT outage_id FROM service_outages ORDER BY outage_id DESC OFFSET 100 LIMIT 1);
    END IF;
    UPDATE service_liveness SET alive_at = present;
    RETURN present;
END
$$;

COMMENT ON FUNCTION note_service_alive(interval, interval) IS 'A sign of life of a replica; records an outage if the last one is longer ago than the gap or the shortest outage.';

-- What a decision needs to know of time. A transaction reads it once, in the statement that takes its snapshot.
CREATE VIEW service_moment AS
SELECT
    clock_timestamp() AS now,
    alive_at,
    ARRAY(SELECT began_at FROM service_outages ORDER BY outage_id) AS began,
    ARRAY(SELECT recovered_at FROM service_outages ORDER BY outage_id) AS recovered,
    ARRAY(SELECT (extract(epoch FROM counts_from) * 1000000)::bigint FROM service_outages ORDER BY outage_id) AS gaps_us
FROM service_liveness;

COMMENT ON VIEW service_moment IS 'The clock at the moment of reading, and what leases are judged by at it.';
COMMENT ON COLUMN service_moment.now IS 'This server''s clock.';
COMMENT ON COLUMN service_moment.alive_at IS 'The last sign of life of any replica.';
COMMENT ON COLUMN service_moment.began IS 'When the outages that are kept began, oldest first.';
COMMENT ON COLUMN service_moment.recovered IS 'When they ended.';
COMMENT ON COLUMN service_moment.gaps_us IS 'The outage gap of each, in microseconds.';

CREATE FUNCTION failover_timeout(ticks bigint) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => (ticks / 10)::double precision / 1000000);

COMMENT ON FUNCTION failover_timeout(bigint) IS 'A failover timeout as an interval.';

CREATE FUNCTION lease_end(lease_until timestamptz, given_for interval) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    ends timestamptz := lease_until;
    outage record;
BEGIN
    IF lease_until IS NULL THEN
        RETURN NULL;
    END IF;
    FOR outage IN SELECT began_at, recovered_at, counts_from FROM service_outages ORDER BY outage_id LOOP
        IF ends > outage.began_at
            AND outage.recovered_at - outage.began_at > least(outage.counts_from, given_for / 4)
        THEN
            ends := greatest(ends, outage.recovered_at + given_for);
        END IF;
    END LOOP;
    RETURN ends;
END
$$;

COMMENT ON FUNCTION lease_end(timestamptz, interval) IS 'When a lease really ends: an outage of the service extends one that was unexpired when it began by the time it was given for.';

CREATE VIEW session_status AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    s.session_id,
    s.name,
    CASE
        WHEN s.role = 1 AND live.is_live THEN 'Primary'
        WHEN s.role = 2 AND live.is_live THEN 'PendingPrimary'
        ELSE 'Secondary'
    END AS role,
    live.is_live AS live,
    h.percent_healthy_streams AS health,
    round(extract(epoch FROM clock_timestamp() - h.received_at), 3) AS seconds_since_heartbeat,
    greatest(0, round(extract(epoch FROM live.ends - clock_timestamp()), 3)) AS lease_seconds_left,
    s.role_changed_at,
    s.registered_at,
    g.group_key
FROM groups g
JOIN sessions s ON s.group_key = g.group_key
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
CROSS JOIN LATERAL (
    SELECT lease.ends, coalesce(clock_timestamp() < lease.ends, false) AS is_live
    FROM (SELECT lease_end(h.lease_until, h.lease_until - h.received_at) AS ends) lease
) live;

COMMENT ON VIEW session_status IS 'A row per session with what is true now: role, health, time since the last heartbeat, time left of the lease.';
COMMENT ON COLUMN session_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN session_status.namespace_id IS 'The namespace.';
COMMENT ON COLUMN session_status.group_id IS 'The group.';
COMMENT ON COLUMN session_status.session_id IS 'The session.';
COMMENT ON COLUMN session_status.name IS 'Its name for people.';
COMMENT ON COLUMN session_status.role IS 'The role that is true now.';
COMMENT ON COLUMN session_status.live IS 'Whether it has sent a heartbeat and its lease has not run out.';
COMMENT ON COLUMN session_status.health IS 'Per cent of healthy streams that it last reported.';
COMMENT ON COLUMN session_status.seconds_since_heartbeat IS 'Time since its last heartbeat arrived.';
COMMENT ON COLUMN session_status.lease_seconds_left IS 'Time left of its lease; 0 once it has run out.';
COMMENT ON COLUMN session_status.role_changed_at IS 'When its role last changed.';
COMMENT ON COLUMN session_status.registered_at IS 'When it registered.';
COMMENT ON COLUMN session_status.group_key IS 'The key of the group.';

CREATE VIEW group_status AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    g.name,
    max(s.session_id) FILTER (WHERE s.role = 'Primary') AS primary_session,
    max(s.role_changed_at) FILTER (WHERE s.role = 'Primary') AS primary_since,
    max(s.session_id) FILTER (WHERE s.role = 'PendingPrimary') AS pending_primary_session,
    g.term,
    greatest(g.watermark_base_at, max(h.primary_sent_until)) AS watermark,
    count(s.session_id) FILTER (WHERE s.live) AS live_sessions,
    count(s.session_id) AS registered_sessions,
    failover_timeout(g.failover_timeout_ticks) AS failover_timeout,
    CASE WHEN g.handover_until > clock_timestamp() THEN g.handover_from END AS handover_from,
    g.group_key
FROM groups g
LEFT JOIN session_status s ON s.group_key = g.group_key
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
GROUP BY g.group_key;

COMMENT ON VIEW group_status IS 'A row per group with what is true now: who is Primary since when, who is to take over, term, watermark, sessions.';
COMMENT ON COLUMN group_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN group_status.namespace_id IS 'The namespace.';
COMMENT ON COLUMN group_status.group_id IS 'The group.';
COMMENT ON COLUMN group_status.name IS 'Its name for people.';
COMMENT ON COLUMN group_status.primary_session IS 'The session that is Primary now; null if none.';
COMMENT ON COLUMN group_status.primary_since IS 'Since when.';
COMMENT ON COLUMN group_status.pending_primary_session IS 'The session that is to take over; null if none.';
COMMENT ON COLUMN group_status.term IS 'The term of the last grant of Primary.';
COMMENT ON COLUMN group_status.watermark IS 'The time up to which a Primary said that it sent data.';
COMMENT ON COLUMN group_status.live_sessions IS 'Sessions whose lease has not run out.';
COMMENT ON COLUMN group_status.registered_sessions IS 'All sessions.';
COMMENT ON COLUMN group_status.failover_timeout IS 'How long a heartbeat keeps its session live.';
COMMENT ON COLUMN group_status.handover_from IS 'The session whose open handover is being waited for; null if none.';
COMMENT ON COLUMN group_status.group_key IS 'The key of the group.';
