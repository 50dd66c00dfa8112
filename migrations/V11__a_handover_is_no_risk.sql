-- A view only: a replica that does not know this version does not notice.

-- While a handover is under way nobody is granted Primary, for the one before may still be acting. That is planned, and is over within
-- its lease; it needs a look only where nobody is there to take over. The rules are those of the service's own page and metrics.
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
    g.group_key
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

COMMENT ON COLUMN group_risks.risk IS 'NoPrimary (and no handover is under way), NoStandby (nobody else is live), PrimaryUnhealthy (below 90 per cent), Flapping (four grants in ten minutes).';
