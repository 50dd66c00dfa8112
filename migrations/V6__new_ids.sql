-- Clients that register with a new id at each start are a risk of their group. It is judged by the
-- rows that there are.

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
    r.of_sessions,
    g.vacant_because
FROM group_status g
LEFT JOIN (
    SELECT group_key, count(*) AS grants FROM role_transitions
    WHERE recorded_at > statement_timestamp() - interval '10 minutes' AND to_role = 1
    GROUP BY group_key
) f ON f.group_key = g.group_key
-- Silent sessions that were registered within the hour after another one's last sign of life, by
-- the same identity. Nothing is looked at where few are silent.
LEFT JOIN LATERAL (
    SELECT count(*) AS ids
    FROM (
        SELECT
            e.is_begin AND h.session_id IS NOT NULL AS is_start,
            bool_or(NOT e.is_begin) OVER (
                PARTITION BY s.registered_by ORDER BY e.at
                RANGE BETWEEN interval '1 hour' PRECEDING AND interval '1 microsecond' PRECEDING
            ) AS took_a_place
        FROM sessions s
        LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
        CROSS JOIN LATERAL (VALUES
            (true, s.registered_at),
            (false, greatest(h.received_at, s.registered_at))
        ) AS e (is_begin, at)
        WHERE g.registered_sessions - g.live_sessions > 3 AND s.group_key = g.group_key
            AND coalesce(h.lease_until <= statement_timestamp(), true)
    ) starts
    WHERE is_start AND took_a_place
) n ON true
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
    (9, 'ManySessions', g.live_sessions > 4, NULL),
    (10, 'NewIdEachStart', n.ids >= 3, NULL)
) AS r (urgency, risk, holds, of_sessions)
WHERE r.holds;

COMMENT ON COLUMN group_risks.risk IS
    'NoPrimary (and no handover is under way), NoStandby (nobody else is live), PrimaryUnhealthy '
    '(below 90 per cent), Flapping (four grants in ten minutes), SameIdTwice (the heartbeats of a '
    'session look like those of two clients), DataStandsStill (the Primary reports no newer data), '
    'ClockAhead (times of a session are ahead of the clock), SeldomHeartbeats (a session sends '
    'them clearly more seldom than every half timeout), ManySessions (more than four are live), '
    'NewIdEachStart (three silent sessions took the place of another).';
COMMENT ON COLUMN group_risks.urgency IS '1 to 10, the most urgent first.';
