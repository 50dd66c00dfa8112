-- What is noted of the rhythm of a session's heartbeats and of its data, and the risks that are
-- told by it. Each column is computed from the heartbeat before, which a heartbeat reads anyway. A
-- row that an older release wrote has nothing noted, which is no risk.

-- Few and small, for every heartbeat writes them.
ALTER TABLE heartbeats
    ADD COLUMN data_still_ms integer,
    ADD COLUMN rhythm integer NOT NULL DEFAULT 0;

COMMENT ON COLUMN heartbeats.data_still_ms IS
    'For how long it has said the last_data_send_time that it says while it was Primary, outages '
    'of the service and silences not counted; null while it never said one.';
COMMENT ON COLUMN heartbeats.rhythm IS
    'Three numbers, as decimal digits. The last two: how much its heartbeats look like those of '
    'two clients with one id, 0 to 16; it rises with those that come in between one another or '
    'with times that go back, and falls by one with each other. The one before: how many of the '
    'latest came clearly later than half a timeout after the one before, 8 at most; each that '
    'came in time takes two off. The rest: how long after the one before the latest came, in '
    'thousandths of the timeout; 0 where that says nothing, because it is the first, the service '
    'was away, or the timeout was another.';

CREATE OR REPLACE VIEW session_status AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    s.session_id,
    s.name,
    CASE
        WHEN s.role = 1 AND statement_timestamp() < lease.ends THEN 'Primary'
        WHEN s.role = 2 AND statement_timestamp() < lease.ends THEN 'PendingPrimary'
        ELSE 'Secondary'
    END AS role,
    coalesce(statement_timestamp() < lease.ends, false) AS live,
    h.percent_healthy_streams AS health,
    round(extract(epoch FROM statement_timestamp() - h.received_at), 3) AS seconds_since_heartbeat,
    greatest(0, round(extract(epoch FROM lease.ends - statement_timestamp()), 3))
        AS lease_seconds_left,
    s.role_changed_at,
    s.registered_at,
    g.group_key,
    s.registered_by,
    CASE WHEN h.rhythm >= 1000 THEN
        h.rhythm / 1000 * failover_timeout(g.failover_timeout_ticks) / 1000
    END AS heartbeat_interval,
    h.rhythm / 100 % 10 AS late_in_a_row,
    h.rhythm % 100 AS signs_of_two,
    CASE WHEN s.role = 1 AND statement_timestamp() < lease.ends
        THEN h.data_still_ms * interval '1 ms'
    END AS data_stands_still_for,
    greatest(h.heartbeat_time, h.last_data_send_time) - h.received_at AS clock_ahead_by
FROM groups g
JOIN sessions s ON s.group_key = g.group_key
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN h.received_at < (SELECT max(recovered_at) FROM service_outages)
            THEN lease_end(h.lease_until, h.lease_until - h.received_at)
        ELSE h.lease_until
    -- Computed once a row, though it is used several times.
    END AS ends OFFSET 0
) lease;

COMMENT ON COLUMN session_status.heartbeat_interval IS
    'How long after the one before its latest heartbeat came; null where that says nothing.';
COMMENT ON COLUMN session_status.late_in_a_row IS
    'How many of its latest heartbeats came clearly later than half a timeout after the one '
    'before, eight at most.';
COMMENT ON COLUMN session_status.signs_of_two IS
    'How much its heartbeats look like those of two clients with one id, 0 to 16.';
COMMENT ON COLUMN session_status.data_stands_still_for IS
    'For how long up to its latest heartbeat the Primary reported no newer data; null of others, '
    'and of one that never reported any.';
COMMENT ON COLUMN session_status.clock_ahead_by IS
    'By how much the later of the times in its latest heartbeat was ahead of the clock as that '
    'arrived; less than nothing where both were behind.';

-- The risks that are told by single sessions. Here, where they are gone through anyway.
CREATE OR REPLACE VIEW group_status AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    g.name,
    max(s.session_id) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends)
        AS primary_session,
    max(s.role_changed_at) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends)
        AS primary_since,
    max(s.session_id) FILTER (WHERE s.role = 2 AND statement_timestamp() < lease.ends)
        AS pending_primary_session,
    g.term,
    greatest(g.watermark_base_at, max(h.primary_sent_until)) AS watermark,
    count(s.session_id) FILTER (WHERE statement_timestamp() < lease.ends) AS live_sessions,
    count(s.session_id) AS registered_sessions,
    failover_timeout(g.failover_timeout_ticks) AS failover_timeout,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_from END AS handover_from,
    g.group_key,
    max(h.percent_healthy_streams) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends)
        AS primary_health,
    CASE
        WHEN count(*) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends) > 0 THEN NULL
        -- Whoever held it before, nobody else is granted it now.
        WHEN max(d.in_doubt_until) > statement_timestamp() THEN 'in_doubt'
        -- Its lease is over, and no sweep has come by yet.
        WHEN count(*) FILTER (WHERE s.role = 1) > 0 THEN 'lapsed'
        ELSE g.vacancy
    END AS vacant_because,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_until END AS handover_until,
    CASE WHEN max(d.in_doubt_until) > statement_timestamp() THEN max(d.in_doubt_until) END
        AS in_doubt_until,
    array_agg(s.session_id ORDER BY s.session_id)
        FILTER (WHERE h.rhythm % 100 >= 8 AND statement_timestamp() < lease.ends) AS same_id_twice,
    array_agg(s.session_id ORDER BY s.session_id) FILTER (
        WHERE h.data_still_ms * interval '1 ms'
            > greatest(5 * failover_timeout(g.failover_timeout_ticks), interval '5 minutes')
        AND s.role = 1 AND statement_timestamp() < lease.ends) AS data_stands_still,
    array_agg(s.session_id ORDER BY s.session_id) FILTER (
        WHERE greatest(h.heartbeat_time, h.last_data_send_time) - h.received_at
            > greatest(failover_timeout(g.failover_timeout_ticks) / 2, interval '5 seconds')
        AND statement_timestamp() < lease.ends) AS clock_ahead,
    array_agg(s.session_id ORDER BY s.session_id)
        FILTER (WHERE h.rhythm / 100 % 10 >= 4 AND statement_timestamp() < lease.ends)
        AS seldom_heartbeats
FROM groups g
LEFT JOIN group_doubts d ON d.group_key = g.group_key
LEFT JOIN sessions s ON s.group_key = g.group_key
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
LEFT JOIN LATERAL (
    SELECT CASE
        WHEN h.received_at < (SELECT max(recovered_at) FROM service_outages)
            THEN lease_end(h.lease_until, h.lease_until - h.received_at)
        ELSE h.lease_until
    END AS ends OFFSET 0
) lease ON true
GROUP BY g.group_key;

COMMENT ON COLUMN group_status.same_id_twice IS
    'The live sessions whose heartbeats look like those of two clients; null if there is none.';
COMMENT ON COLUMN group_status.data_stands_still IS
    'The Primary, if it reports no newer data for five timeouts and five minutes; null if it does.';
COMMENT ON COLUMN group_status.clock_ahead IS
    'The live sessions that say times that are ahead of the clock, by half a timeout and by 5 s; '
    'null if there is none.';
COMMENT ON COLUMN group_status.seldom_heartbeats IS
    'The live sessions whose latest heartbeats came clearly later than every half timeout; null if '
    'there is none.';

-- The rules are those of the service's own page and metrics.
CREATE OR REPLACE VIEW group_risks AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    r.risk,
    r.urgency,
    g.primary_session,
    g.primary_health,
    g.live_sessions,
    g.registered_sessions,
    coalesce(f.grants, 0) AS grants_in_ten_minutes,
    g.group_key,
    g.in_doubt_until,
    r.of_sessions
FROM group_status g
LEFT JOIN (
    SELECT group_key, count(*) AS grants FROM role_transitions
    WHERE recorded_at > statement_timestamp() - interval '10 minutes' AND to_role = 1
    GROUP BY group_key
) f ON f.group_key = g.group_key
CROSS JOIN LATERAL (VALUES
    (1, 'NoPrimary', g.primary_session IS NULL AND g.registered_sessions > 0
        AND NOT (g.handover_from IS NOT NULL AND g.live_sessions > 0), NULL::text[] COLLATE "C"),
    (2, 'NoStandby', g.primary_session IS NOT NULL AND g.live_sessions < 2, NULL),
    (3, 'PrimaryUnhealthy', g.primary_health < 90, NULL),
    (4, 'Flapping', f.grants >= 4 AND g.registered_sessions > 0, NULL),
    (5, 'SameIdTwice', g.same_id_twice IS NOT NULL, g.same_id_twice),
    (6, 'DataStandsStill', g.data_stands_still IS NOT NULL, g.data_stands_still),
    (7, 'ClockAhead', g.clock_ahead IS NOT NULL, g.clock_ahead),
    (8, 'SeldomHeartbeats', g.seldom_heartbeats IS NOT NULL, g.seldom_heartbeats),
    (9, 'ManySessions', g.live_sessions > 4, NULL)
) AS r (urgency, risk, holds, of_sessions)
WHERE r.holds;

COMMENT ON COLUMN group_risks.risk IS
    'NoPrimary (and no handover is under way), NoStandby (nobody else is live), PrimaryUnhealthy '
    '(below 90 per cent), Flapping (four grants in ten minutes), SameIdTwice (the heartbeats of a '
    'session look like those of two clients), DataStandsStill (the Primary reports no newer data), '
    'ClockAhead (times of a session are ahead of the clock), SeldomHeartbeats (a session sends '
    'them clearly more seldom than every half timeout), ManySessions (more than four are live).';
COMMENT ON COLUMN group_risks.urgency IS '1 to 9, the most urgent first.';
COMMENT ON COLUMN group_risks.of_sessions IS
    'The sessions that the risk is told by; null where it is that of the whole group.';
