-- What operators wish of sessions: to be Primary, or not to be. An older release decides as if
-- there were none, and leaves them as they are: set no wish before the last replica is upgraded.

-- With the row of its group, which every heartbeat reads: where there is none, nothing is looked
-- for.
ALTER TABLE groups ADD COLUMN has_wishes boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN groups.has_wishes IS
    'Whether anything is wished of its sessions: see session_wishes.';

CREATE TABLE session_wishes (
    group_key uuid NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    wish text NOT NULL,
    when_silent text,
    wished_by text NOT NULL,
    wished_at timestamptz NOT NULL,
    wished_until timestamptz,
    CONSTRAINT session_wishes_one_of_a_session PRIMARY KEY (group_key, session_id),
    CONSTRAINT session_wishes_wish_is_known
        CHECK (wish IN ('forced', 'excluded', 'switch_to', 'switch_away')),
    CONSTRAINT session_wishes_only_a_forced_one_can_be_silent CHECK (
        (when_silent IS NOT NULL) = (wish = 'forced')
        AND when_silent IN ('replace', 'hold')),
    -- One that is to happen once is given up some time.
    CONSTRAINT session_wishes_of_a_switch_have_an_end
        CHECK (wished_until IS NOT NULL OR wish IN ('forced', 'excluded')),
    CONSTRAINT session_wishes_times_are_finite
        CHECK (isfinite(wished_at) AND isfinite(wished_until))
);

-- Where groups are spread over the nodes of a cluster, their wishes are where they are.
DO $$
BEGIN
    IF to_regproc('place_of_group') IS NOT NULL THEN
        PERFORM create_distributed_table('session_wishes', 'group_key', colocate_with => 'groups');
    END IF;
END
$$;

-- A session takes its wish along.
ALTER TABLE session_wishes ADD CONSTRAINT session_wishes_belong_to_a_session
    FOREIGN KEY (group_key, session_id) REFERENCES sessions (group_key, session_id)
    ON DELETE CASCADE;

-- As the decisions keep it: nobody can rank first beside another.
CREATE UNIQUE INDEX session_wishes_at_most_one_puts_first ON session_wishes (group_key)
    WHERE wish IN ('forced', 'switch_to');

-- For those whose time is over.
CREATE INDEX session_wishes_by_end ON session_wishes (wished_until)
    WHERE wished_until IS NOT NULL;

COMMENT ON TABLE session_wishes IS
    'What an operator wishes of a session. It changes who ranks first; a Primary yields to that '
    'with its next heartbeat, and is waited for.';
COMMENT ON COLUMN session_wishes.group_key IS 'The group.';
COMMENT ON COLUMN session_wishes.session_id IS 'The session.';
COMMENT ON COLUMN session_wishes.wish IS
    'forced (first while it is live, whatever its health), excluded (never Primary), switch_to '
    '(first until it is granted), switch_away (last until another is granted).';
COMMENT ON COLUMN session_wishes.when_silent IS
    'Of a forced one: whether the best of the others takes its place while it is silent (replace) '
    'or nobody does (hold).';
COMMENT ON COLUMN session_wishes.wished_by IS 'The identity that wished it.';
COMMENT ON COLUMN session_wishes.wished_at IS 'Since when.';
COMMENT ON COLUMN session_wishes.wished_until IS
    'Until when; null until it is withdrawn. Who decides next after that takes the row away, or '
    'the sweep does.';

-- Each wish that is set or ends is an event. One step a statement: a cluster takes no more.
ALTER TABLE configuration_changes ADD COLUMN wish text;
ALTER TABLE configuration_changes ADD COLUMN when_silent text;
ALTER TABLE configuration_changes ADD COLUMN wished_until timestamptz;
ALTER TABLE configuration_changes ADD COLUMN wish_ended text;
ALTER TABLE configuration_changes DROP CONSTRAINT configuration_changes_kind_is_known;
ALTER TABLE configuration_changes
    DROP CONSTRAINT configuration_changes_name_a_session_where_one_changed;
ALTER TABLE configuration_changes ADD CONSTRAINT configuration_changes_kind_is_known CHECK (
    kind IN ('group_created', 'group_changed', 'group_deleted', 'session_registered',
        'session_deleted', 'wish_set', 'wish_ended')) NOT VALID;
ALTER TABLE configuration_changes
    ADD CONSTRAINT configuration_changes_name_a_session_where_one_changed CHECK (
        (session_id IS NOT NULL) = (kind NOT IN ('group_created', 'group_changed', 'group_deleted'))
    ) NOT VALID;
ALTER TABLE configuration_changes ADD CONSTRAINT configuration_changes_of_a_wish_name_it CHECK (
    (wish IS NOT NULL) = (kind IN ('wish_set', 'wish_ended'))
    AND (wish_ended IS NOT NULL) = (kind = 'wish_ended')) NOT VALID;

COMMENT ON COLUMN configuration_changes.wish IS
    'What is wished of the session, or was: as in session_wishes; null where no wish changed.';
COMMENT ON COLUMN configuration_changes.when_silent IS 'As in session_wishes.';
COMMENT ON COLUMN configuration_changes.wished_until IS 'As in session_wishes.';
COMMENT ON COLUMN configuration_changes.wish_ended IS
    'How the wish ended: done, expired, withdrawn, replaced; null where none did.';

ALTER TABLE audit_log DROP CONSTRAINT audit_log_action_is_known;
ALTER TABLE audit_log ADD CONSTRAINT audit_log_action_is_known CHECK (action IN (
    'group_created', 'group_changed', 'group_deleted', 'group_deleted_by_force',
    'live_session_deleted', 'key_created', 'key_revoked', 'history_noted', 'request_refused',
    'wish_set', 'wish_ended', 'silent_session_deleted')) NOT VALID;

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
    greatest(h.heartbeat_time, h.last_data_send_time) - h.received_at AS clock_ahead_by,
    w.wish,
    w.when_silent,
    w.wished_by,
    w.wished_at,
    w.wished_until
FROM groups g
JOIN sessions s ON s.group_key = g.group_key
LEFT JOIN session_wishes w ON w.group_key = s.group_key AND w.session_id = s.session_id
    AND (w.wished_until IS NULL OR w.wished_until > statement_timestamp())
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN h.received_at < (SELECT max(recovered_at) FROM service_outages)
            THEN lease_end(h.lease_until, h.lease_until - h.received_at)
        ELSE h.lease_until
    -- Computed once a row, though it is used several times.
    END AS ends OFFSET 0
) lease;

COMMENT ON COLUMN session_status.wish IS
    'What an operator wishes of it now, as in session_wishes; null for nothing.';
COMMENT ON COLUMN session_status.when_silent IS 'As in session_wishes.';
COMMENT ON COLUMN session_status.wished_by IS 'Who wished it.';
COMMENT ON COLUMN session_status.wished_at IS 'Since when.';
COMMENT ON COLUMN session_status.wished_until IS 'Until when; null until it is withdrawn.';

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
        -- By an operator's wish.
        WHEN count(*) FILTER (WHERE w.when_silent = 'hold'
            AND (statement_timestamp() < lease.ends) IS NOT TRUE) > 0 THEN 'held'
        WHEN count(*) FILTER (WHERE statement_timestamp() < lease.ends) > 0
            AND count(*) FILTER (WHERE statement_timestamp() < lease.ends
                AND w.wish IS DISTINCT FROM 'excluded') = 0 THEN 'excluded'
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
LEFT JOIN session_wishes w ON w.group_key = s.group_key AND w.session_id = s.session_id
    AND (w.wished_until IS NULL OR w.wished_until > statement_timestamp())
LEFT JOIN LATERAL (
    SELECT CASE
        WHEN h.received_at < (SELECT max(recovered_at) FROM service_outages)
            THEN lease_end(h.lease_until, h.lease_until - h.received_at)
        ELSE h.lease_until
    END AS ends OFFSET 0
) lease ON true
GROUP BY g.group_key;

COMMENT ON COLUMN group_status.vacant_because IS
    'Why nobody is Primary: never_held, lapsed, yielded, deleted (the Primary, or the group that '
    'was here before), in_doubt (the database has a new history), held (an operator keeps the '
    'place for a session that is silent) or excluded (all live sessions are kept out by an '
    'operator); null while somebody is.';

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

COMMENT ON COLUMN group_risks.vacant_because IS 'As in group_status.';
