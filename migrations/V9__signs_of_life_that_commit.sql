-- A sign of life is what a heartbeat needs, and what the database's clock did is known to whoever judges a lease by it.

-- A step forward is an outage that counts for every lease. Handovers end by an instant and not after a time that was given, so
-- these need its size.
ALTER TABLE service_outages ADD COLUMN clock_step interval;

COMMENT ON COLUMN service_outages.clock_step IS 'By how much this server''s clock was set forward in it; null for an outage that is none of the clock''s.';

CREATE TABLE service_clock_set_back (
    step_id bigint GENERATED ALWAYS AS IDENTITY,
    noticed_at timestamptz NOT NULL,
    was_at timestamptz NOT NULL,
    CONSTRAINT service_clock_set_back_one_row_per_step PRIMARY KEY (step_id),
    CONSTRAINT service_clock_set_back_goes_back CHECK (noticed_at < was_at)
);

COMMENT ON TABLE service_clock_set_back IS 'When this server''s clock was found set back. Leases and handovers given before are based anew on the new clock: they end no later than one of their lengths after that.';
COMMENT ON COLUMN service_clock_set_back.step_id IS 'Rises with each.';
COMMENT ON COLUMN service_clock_set_back.noticed_at IS 'When it was noticed, by the new clock.';
COMMENT ON COLUMN service_clock_set_back.was_at IS 'The last sign of life before it, by the old clock.';

-- A group is based anew by whoever next decides on it, in the same transaction, or by the sweep.
ALTER TABLE groups ADD COLUMN clock_set_back bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN groups.clock_set_back IS 'The last step_id of service_clock_set_back that its leases were based anew for.';

CREATE FUNCTION base_leases_anew(keys uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    latest_id bigint;
    latest_at timestamptz;
BEGIN
    SELECT step_id, noticed_at INTO STRICT latest_id, latest_at FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1;
    UPDATE groups g
    SET clock_set_back = latest_id,
        -- One from a session that is gone stands: for how long its lease was given is not known any more.
        handover_until = CASE WHEN g.handover_from IS NULL THEN g.handover_until ELSE
            least(g.handover_until, latest_at + greatest(failover_timeout(g.failover_timeout_ticks),
                (SELECT h.lease_until - h.received_at FROM heartbeats h
                    WHERE h.group_key = g.group_key AND h.session_id = g.handover_from)))
        END
    WHERE g.group_key = ANY (keys) AND g.clock_set_back < latest_id;
    -- What was received in the future of the new clock was received by the old one.
    UPDATE heartbeats h
    SET received_at = latest_at, lease_until = latest_at + (h.lease_until - h.received_at)
    WHERE h.group_key = ANY (keys) AND h.received_at > latest_at;
END
$$;

COMMENT ON FUNCTION base_leases_anew(uuid[]) IS 'Bases the leases and handovers of groups whose clock_set_back is behind on the clock as it was set back last.';

-- A sign of life needs what a heartbeat needs: it commits as durably as one, and waits for the locks that one waits for. Where it
-- does not come through, heartbeats do not, and the time counts as an outage. The instant that is noted is that of writing: a
-- commit that hangs leaves a silence behind, which the next sign of life sees.
--
-- A lock that is not had within a moment is given up, so that whoever waits asks again and is not itself waited for. Whatever
-- the wait was for, the tables come before the row that all replicas share.
CREATE FUNCTION note_service_alive(
    outage_gap interval, shortest_outage interval, fresh interval, compared_at timestamptz, least_lead interval, most_lead interval
) RETURNS timestamptz LANGUAGE plpgsql SET lock_timeout = '50ms' AS $$
DECLARE
    shortest CONSTANT interval := least(outage_gap, shortest_outage);
    -- Two readings of one clock may seem to go back by as much.
    of_no_account CONSTANT interval := interval '20 ms';
    previous timestamptz;
    present timestamptz;
    known_lead interval;
BEGIN
    LOCK TABLE heartbeats IN ROW EXCLUSIVE MODE;
    LOCK TABLE groups, sessions IN ACCESS SHARE MODE;
    SELECT alive_at INTO STRICT previous FROM service_liveness;
    IF most_lead IS NULL AND clock_timestamp() BETWEEN previous AND previous + fresh THEN
        -- Another replica's has been committed a moment ago.
        RETURN previous;
    END IF;
    SELECT alive_at INTO STRICT previous FROM service_liveness FOR UPDATE;
    present := clock_timestamp();
    IF most_lead IS NULL AND present BETWEEN previous AND previous + fresh THEN
        -- Nothing was written that would have to last.
        PERFORM set_config('synchronous_commit', 'off', true);
        RETURN previous;
    END IF;
    IF previous - present > of_no_account THEN
        INSERT INTO service_clock_set_back (noticed_at, was_at) VALUES (present, previous);
        DELETE FROM service_clock_set_back
        WHERE step_id <= (SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC OFFSET 100 LIMIT 1);
        -- Outages of the old clock end in no future of the new one: a lease that was given since would be extended by them.
        UPDATE service_outages SET began_at = began_at - (recovered_at - present), recovered_at = present
        WHERE recovered_at > present;
        UPDATE service_liveness SET alive_at = present;
        RETURN present;
    END IF;
    present := greatest(present, previous);
    IF most_lead IS NOT NULL THEN
        -- Each replica notices it, in readings of its own; the first one notes it.
        SELECT coalesce(sum(clock_step), interval '0') INTO known_lead FROM service_outages WHERE recovered_at > compared_at;
        IF least_lead - known_lead > of_no_account / 2 THEN
            INSERT INTO service_outages (began_at, recovered_at, counts_from, clock_step)
            VALUES (least(previous, compared_at), present, interval '0', most_lead - known_lead);
        END IF;
    ELSIF present - previous > shortest THEN
        INSERT INTO service_outages (began_at, recovered_at, counts_from) VALUES (previous, present, outage_gap);
    END IF;
    IF most_lead IS NOT NULL OR present - previous > shortest THEN
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

COMMENT ON FUNCTION note_service_alive(interval, interval, interval, timestamptz, interval, interval) IS 'A durable sign of life of a replica, unless there is a fresh one. Records an outage if the last one is longer ago than the gap or the shortest outage; a step of the clock forward, by which it is at least and at most ahead of what passed since it was compared; and one back.';

-- For replicas of an earlier version: theirs are no less durable.
CREATE OR REPLACE FUNCTION note_service_alive(outage_gap interval, shortest_outage interval) RETURNS timestamptz
LANGUAGE sql AS $$
    SELECT note_service_alive(outage_gap, shortest_outage, interval '0', NULL, NULL, NULL)
$$;

CREATE OR REPLACE VIEW service_moment AS
SELECT
    clock_timestamp() AS now,
    alive_at,
    ARRAY(SELECT began_at FROM service_outages ORDER BY outage_id) AS began,
    ARRAY(SELECT recovered_at FROM service_outages ORDER BY outage_id) AS recovered,
    ARRAY(SELECT (extract(epoch FROM counts_from) * 1000000)::bigint FROM service_outages ORDER BY outage_id) AS gaps_us,
    ARRAY(SELECT coalesce((extract(epoch FROM clock_step) * 1000000)::bigint, 0) FROM service_outages ORDER BY outage_id)
        AS steps_us,
    coalesce((SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1), 0) AS clock_set_back
FROM service_liveness;

COMMENT ON COLUMN service_moment.steps_us IS 'By how much the clock was set forward in each, in microseconds; 0 for those that are none of the clock''s.';
COMMENT ON COLUMN service_moment.clock_set_back IS 'The last step_id of service_clock_set_back; 0 for none.';
