-- What operators look at. Views only: a replica that does not know this version does not notice.

-- The views judged every row by clock_timestamp(). A view that calls it cannot become part of the query around it, so to look at one group
-- all sessions were judged; and in a long look the rows judged last were compared with a clock that had gone on since the
-- snapshot, so that healthy leases seemed over. The start of the statement is the moment of its snapshot.
--
-- Outages only extend leases that were given before they ended, so the function that judges by them is called for these alone.
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
    greatest(0, round(extract(epoch FROM lease.ends - statement_timestamp()), 3)) AS lease_seconds_left,
    s.role_changed_at,
    s.registered_at,
    g.group_key,
    s.registered_by
FROM groups g
JOIN sessions s ON s.group_key = g.group_key
LEFT JOIN heartbeats h ON h.group_key = s.group_key AND h.session_id = s.session_id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN h.received_at < (SELECT max(recovered_at) FROM service_outages)
            THEN lease_end(h.lease_until, h.lease_until - h.received_at)
        ELSE h.lease_until
    -- Computed once a row, though it is used five times.
    END AS ends OFFSET 0
) lease;

COMMENT ON VIEW session_status IS 'A row per session with what is true as the statement starts: role, health, time since the last heartbeat, time left of the lease.';
COMMENT ON COLUMN session_status.registered_by IS 'The identity that registered it; null if that was not noted.';

CREATE OR REPLACE VIEW group_status AS
SELECT
    g.tenant_id,
    g.namespace_id,
    g.group_id,
    g.name,
    max(s.session_id) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends) AS primary_session,
    max(s.role_changed_at) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends) AS primary_since,
    max(s.session_id) FILTER (WHERE s.role = 2 AND statement_timestamp() < lease.ends) AS pending_primary_session,
    g.term,
    greatest(g.watermark_base_at, max(h.primary_sent_until)) AS watermark,
    count(s.session_id) FILTER (WHERE statement_timestamp() < lease.ends) AS live_sessions,
    count(s.session_id) AS registered_sessions,
    failover_timeout(g.failover_timeout_ticks) AS failover_timeout,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_from END AS handover_from,
    g.group_key,
    max(h.percent_healthy_streams) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends) AS primary_health,
    CASE
        WHEN count(*) FILTER (WHERE s.role = 1 AND statement_timestamp() < lease.ends) > 0 THEN NULL
        -- Its lease is over, and no sweep has come by yet.
        WHEN count(*) FILTER (WHERE s.role = 1) > 0 THEN 'lapsed'
        ELSE g.vacancy
    END AS vacant_because
FROM groups g
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

COMMENT ON VIEW group_status IS 'A row per group with what is true as the statement starts: who is Primary since when, who is to take over, term, watermark, sessions.';
COMMENT ON COLUMN group_status.primary_health IS 'Per cent of healthy streams that the Primary last reported; null if there is none.';
COMMENT ON COLUMN group_status.vacant_because IS 'Why nobody is Primary: never_held, lapsed, yielded or deleted; null while somebody is.';

-- The rules are those of the service's own page and metrics.
CREATE VIEW group_risks AS
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
    g.group_key
FROM group_status g
LEFT JOIN (
    SELECT group_key, count(*) AS grants FROM role_transitions
    WHERE recorded_at > statement_timestamp() - interval '10 minutes' AND to_role = 1
    GROUP BY group_key
) f ON f.group_key = g.group_key
CROSS JOIN LATERAL (VALUES
    (1, 'NoPrimary', g.primary_session IS NULL AND g.registered_sessions > 0),
    (2, 'NoStandby', g.primary_session IS NOT NULL AND g.live_sessions < 2),
    (3, 'PrimaryUnhealthy', g.primary_health < 90),
    (4, 'Flapping', f.grants >= 4)
) AS r (urgency, risk, holds)
WHERE r.holds;

COMMENT ON VIEW group_risks IS 'A row per group and reason for which it needs a look, as the statement starts. A group that nobody registered in is not in use.';
COMMENT ON COLUMN group_risks.tenant_id IS 'The tenant.';
COMMENT ON COLUMN group_risks.namespace_id IS 'The namespace.';
COMMENT ON COLUMN group_risks.group_id IS 'The group.';
COMMENT ON COLUMN group_risks.risk IS 'NoPrimary, NoStandby (nobody else is live), PrimaryUnhealthy (below 90 per cent), Flapping (four grants in ten minutes).';
COMMENT ON COLUMN group_risks.urgency IS '1 to 4, the most urgent first.';
COMMENT ON COLUMN group_risks.primary_session IS 'The session that is Primary now; null if none.';
COMMENT ON COLUMN group_risks.primary_health IS 'Per cent of healthy streams that it last reported.';
COMMENT ON COLUMN group_risks.live_sessions IS 'Sessions whose lease has not run out.';
COMMENT ON COLUMN group_risks.registered_sessions IS 'All sessions.';
COMMENT ON COLUMN group_risks.grants_in_ten_minutes IS 'How often Primary was granted in the last ten minutes.';
COMMENT ON COLUMN group_risks.group_key IS 'The key of the group.';

CREATE VIEW role_history AS
SELECT
    recorded_at,
    tenant_id,
    namespace_id,
    group_id,
    session_id,
    (ARRAY['Secondary', 'Primary', 'PendingPrimary'])[from_role + 1] AS from_role,
    (ARRAY['Secondary', 'Primary', 'PendingPrimary'])[to_role + 1] AS to_role,
    reason,
    actor,
    term,
    transition_id,
    group_key
FROM role_transitions;

COMMENT ON VIEW role_history IS 'Every change of a role that is kept, with the roles by name. A deleted group keeps its rows.';
COMMENT ON COLUMN role_history.recorded_at IS 'The instant the change was decided at.';
COMMENT ON COLUMN role_history.tenant_id IS 'The tenant.';
COMMENT ON COLUMN role_history.namespace_id IS 'The namespace.';
COMMENT ON COLUMN role_history.group_id IS 'The group.';
COMMENT ON COLUMN role_history.session_id IS 'The session whose role changed.';
COMMENT ON COLUMN role_history.from_role IS 'The role before.';
COMMENT ON COLUMN role_history.to_role IS 'The role after.';
COMMENT ON COLUMN role_history.reason IS 'Why: one of a closed list.';
COMMENT ON COLUMN role_history.actor IS 'What made the change: a heartbeat, the sweep, or an operator (deletion).';
COMMENT ON COLUMN role_history.term IS 'The group''s term after the change.';
COMMENT ON COLUMN role_history.transition_id IS 'Rises with time within a group: the id of the event.';
COMMENT ON COLUMN role_history.group_key IS 'The key of the group.';

-- For those who may look and must not see even a hash: they are given this and not the table.
CREATE VIEW api_key_status AS
SELECT
    key_id,
    name,
    tenant_id,
    namespaces,
    role,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp()) AS valid,
    created_at,
    expires_at,
    last_used_at,
    revoked_at
FROM api_keys;

COMMENT ON VIEW api_key_status IS 'The keys of the service''s own, without what they are verified by.';
COMMENT ON COLUMN api_key_status.key_id IS 'The number by which a key is revoked.';
COMMENT ON COLUMN api_key_status.name IS 'A name for people.';
COMMENT ON COLUMN api_key_status.tenant_id IS 'The tenant it is good in; * for all.';
COMMENT ON COLUMN api_key_status.namespaces IS 'The namespaces it is good in; null for all of the tenant''s.';
COMMENT ON COLUMN api_key_status.role IS 'What may be done with it: viewer, client or admin.';
COMMENT ON COLUMN api_key_status.valid IS 'Whether it is good now: neither ended nor revoked.';
COMMENT ON COLUMN api_key_status.created_at IS 'When it was made.';
COMMENT ON COLUMN api_key_status.expires_at IS 'When it ends; null for never.';
COMMENT ON COLUMN api_key_status.last_used_at IS 'When it was last used, to a minute or two.';
COMMENT ON COLUMN api_key_status.revoked_at IS 'When it was revoked; null if it was not.';

COMMENT ON TABLE refinery_schema_history IS 'Which migrations of these tables have run.';
COMMENT ON COLUMN refinery_schema_history.version IS 'The number of the migration; the highest is the version of the tables.';
COMMENT ON COLUMN refinery_schema_history.name IS 'Its name.';
COMMENT ON COLUMN refinery_schema_history.applied_on IS 'When it ran.';
COMMENT ON COLUMN refinery_schema_history.checksum IS 'By which a changed migration is noticed.';
