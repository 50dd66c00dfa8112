-- What operators see of a new history of the database: which groups it puts in doubt, and until when. Views only: a replica that does
-- not know this version does not notice.

-- A group begins anew in a history when it is next decided on, and its row says so from then on. Until then it is in doubt for as long as
-- it will be by what is known here; whoever decides may know of a longer lease.
CREATE VIEW group_doubts AS
SELECT
    g.group_key,
    CASE
        WHEN h.base > 0 AND g.history_id < h.history_id THEN greatest(
            g.in_doubt_until,
            h.noticed_at + failover_timeout(g.failover_timeout_ticks),
            h.noticed_at + (SELECT max(b.lease_until - b.received_at) FROM heartbeats b WHERE b.group_key = g.group_key))
        ELSE g.in_doubt_until
    END AS in_doubt_until
FROM groups g
LEFT JOIN (SELECT * FROM service_histories WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1) h ON true;

COMMENT ON VIEW group_doubts IS 'A row per group: until when somebody may act on a lease that was lost with a history of the database.';
COMMENT ON COLUMN group_doubts.group_key IS 'The key of the group.';
COMMENT ON COLUMN group_doubts.in_doubt_until IS 'Until then only a session that says it acts is told that it is Primary; null where there was never a doubt.';

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
        -- Whoever held it before, nobody else is granted it now.
        WHEN max(d.in_doubt_until) > statement_timestamp() THEN 'in_doubt'
        -- Its lease is over, and no sweep has come by yet.
        WHEN count(*) FILTER (WHERE s.role = 1) > 0 THEN 'lapsed'
        ELSE g.vacancy
    END AS vacant_because,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_until END AS handover_until,
    CASE WHEN max(d.in_doubt_until) > statement_timestamp() THEN max(d.in_doubt_until) END AS in_doubt_until
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

COMMENT ON COLUMN group_status.vacant_because IS 'Why nobody is Primary: never_held, lapsed, yielded, deleted (the Primary, or the group that was here before) or in_doubt (the database has a new history); null while somebody is.';
COMMENT ON COLUMN group_status.in_doubt_until IS 'Until then only a session that says it acts is told that it is Primary, for the database has a new history; null where nothing is in doubt.';

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
    g.in_doubt_until
FROM group_status g
LEFT JOIN (
    SELECT group_key, count(*) AS grants FROM role_transitions
    WHERE recorded_at > statement_timestamp() - interval '10 minutes' AND to_role = 1
    GROUP BY group_key
) f ON f.group_key = g.group_key
CROSS JOIN LATERAL (VALUES
    (1, 'NoPrimary', g.primary_session IS NULL AND g.registered_sessions > 0
        AND NOT (g.handover_from IS NOT NULL AND g.live_sessions > 0)),
    (2, 'NoStandby', g.primary_session IS NOT NULL AND g.live_sessions < 2),
    (3, 'PrimaryUnhealthy', g.primary_health < 90),
    (4, 'Flapping', f.grants >= 4)
) AS r (urgency, risk, holds)
WHERE r.holds;

COMMENT ON COLUMN group_risks.in_doubt_until IS 'Until then only a session that says it acts is told that it is Primary, for the database has a new history; null where nothing is in doubt.';
