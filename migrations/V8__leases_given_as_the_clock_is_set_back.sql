-- That the clock was set back is known to others only when the transaction has committed that noted
-- it. What was received meanwhile, by the new clock, was taken for something of the old one: its
-- lease was cut to count from the noting, by up to as much as the commit took. So everything is
-- based on the instant of doing so, which is later than whatever either clock has given: what the
-- new one has given stays as it is. The rest of the function is as it was.
CREATE OR REPLACE FUNCTION base_leases_anew(keys uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    latest_id bigint;
    -- Not before the noting: the clock may have been set back once more, and nobody has noted that
    -- yet.
    based_at timestamptz;
    stale record;
BEGIN
    SELECT step_id, greatest(noticed_at, clock_timestamp()) INTO STRICT latest_id, based_at
    FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1;
    FOR stale IN
        SELECT
            g.group_key,
            -- One from a session that is gone stands: for how long its lease was given is not known
            -- any more.
            CASE WHEN g.handover_from IS NULL THEN g.handover_until ELSE
                least(g.handover_until,
                    based_at + greatest(failover_timeout(g.failover_timeout_ticks), l.of_handover))
            END AS handover_until,
            CASE WHEN g.in_doubt_until IS NOT NULL THEN
                least(g.in_doubt_until,
                    based_at + greatest(failover_timeout(g.failover_timeout_ticks), l.longest))
            END AS in_doubt_until
        FROM groups g
        LEFT JOIN (
            SELECT i.group_key, max(h.lease_until - h.received_at) AS longest,
                max(h.lease_until - h.received_at) FILTER (WHERE h.session_id = i.handover_from)
                    AS of_handover
            FROM groups i
            JOIN heartbeats h ON h.group_key = i.group_key
            WHERE i.group_key = ANY (keys) AND h.group_key = ANY (keys)
            GROUP BY i.group_key
        ) l ON l.group_key = g.group_key
        WHERE g.group_key = ANY (keys) AND g.clock_set_back < latest_id
        ORDER BY g.group_key
    LOOP
        UPDATE groups
        SET clock_set_back = latest_id, handover_until = stale.handover_until,
            in_doubt_until = stale.in_doubt_until
        WHERE group_key = stale.group_key;
    END LOOP;
    -- What was received in the future of the new clock was received by the old one.
    FOR stale IN
        SELECT h.group_key, h.session_id, based_at + (h.lease_until - h.received_at) AS lease_until
        FROM heartbeats h
        WHERE h.group_key = ANY (keys) AND h.received_at > based_at
        ORDER BY h.group_key, h.session_id
    LOOP
        UPDATE heartbeats SET received_at = based_at, lease_until = stale.lease_until
        WHERE group_key = stale.group_key AND session_id = stale.session_id;
    END LOOP;
END
$$;
