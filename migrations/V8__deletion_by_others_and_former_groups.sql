-- What a deletion that the client does not know of leaves behind, and for how long a client's wrong clock is remembered.
-- A replica that does not know this version goes on working, as unsafe as it was: it waits for no session that is gone, and
-- the terms of a group that it deletes are found in the changes of roles only.

CREATE TABLE former_groups (
    group_key uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    last_term bigint NOT NULL,
    acted_on_until timestamptz,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT former_groups_one_row_per_path PRIMARY KEY (group_key),
    CONSTRAINT former_groups_term_never_negative CHECK (last_term >= 0),
    CONSTRAINT former_groups_times_are_finite CHECK (isfinite(acted_on_until) AND isfinite(deleted_at))
);

COMMENT ON TABLE former_groups IS 'What the last group that was deleted at a path left behind, for the next one there to go on from. Kept for good, also while there is one again: without a row, its terms may begin again at 1.';
COMMENT ON COLUMN former_groups.group_key IS 'The key of the group: the same for every group at that path.';
COMMENT ON COLUMN former_groups.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN former_groups.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN former_groups.group_id IS 'The group id in the path.';
COMMENT ON COLUMN former_groups.last_term IS 'Its term when it was deleted: the first term of the next group is the one above.';
COMMENT ON COLUMN former_groups.acted_on_until IS 'Until when a client may have acted on a lease of it; nobody is granted in the next group before. Null where nobody may have.';
COMMENT ON COLUMN former_groups.deleted_at IS 'When a group was last deleted at that path.';

-- Groups that were deleted before this was kept, as far as their changes of roles still are.
INSERT INTO former_groups (group_key, tenant_id, namespace_id, group_id, last_term, deleted_at)
SELECT group_key, tenant_id, namespace_id, group_id, max(term), max(recorded_at)
FROM role_transitions t
WHERE NOT EXISTS (SELECT FROM groups g WHERE g.group_key = t.group_key)
GROUP BY group_key, tenant_id, namespace_id, group_id
HAVING max(term) > 0;

-- A handover from a session has all it needs; one from a session that is gone has its end alone.
ALTER TABLE groups DROP CONSTRAINT groups_handover_is_whole;
ALTER TABLE groups ADD CONSTRAINT groups_handover_is_whole CHECK (
    num_nulls(handover_from, handover_heard_until) IN (0, 2) AND (handover_from IS NULL OR handover_until IS NOT NULL));

COMMENT ON COLUMN groups.term IS 'How often Primary was granted at this path to a session that did not hold it; never falls, and a group that follows a deleted one goes on from its term.';
COMMENT ON COLUMN groups.handover_from IS 'The session that yielded and may not have heard of it; null when no handover is open, or one from a session that is gone.';
COMMENT ON COLUMN groups.handover_until IS 'The end of the lease that the last Primary held before; nobody else is granted Primary until then, or until it acknowledges. Without handover_from: it was deleted by somebody else, or its group was, and nobody can acknowledge.';

ALTER TABLE heartbeats ADD COLUMN heard_counts_until timestamptz;
ALTER TABLE heartbeats ADD CONSTRAINT heartbeats_heard_counts_until_is_finite
    CHECK (isfinite(heard_counts_until));

COMMENT ON COLUMN heartbeats.heard_counts_until IS 'Until when heard_until counts in full where it is ahead of this server''s clock; afterwards it counts as this instant. Null, or before received_at, if a replica of an earlier version stored the heartbeat.';

-- Until when nobody can be Primary, beside from whom.
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
    END AS vacant_because,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_until END AS handover_until
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

COMMENT ON COLUMN group_status.vacant_because IS 'Why nobody is Primary: never_held, lapsed, yielded or deleted (the Primary, or the group that was here before); null while somebody is.';
COMMENT ON COLUMN group_status.handover_until IS 'Until when nobody can be Primary at the latest, because the last one may still act; null if nobody is waited for.';
