-- Two cases in which a clock that was set cut leases short.
--
-- Set back, the present history seemed to have been noticed in the future. Then nobody was believed
-- to act since, and groups that entered it, or of which a replica knew a longer lease that was
-- lost, were in doubt until the clock had caught up: whoever was Primary and did not say that it
-- acts lost its role.
--
-- Set forward soon after a short outage, and first noticed by a replica that had not read the clock
-- before, it was an outage as others are, and the short one was forgotten as if its time had
-- passed.
--
-- The rest of the function is as it was.
CREATE OR REPLACE FUNCTION note_service_alive(
    outage_gap interval, shortest_outage interval, fresh interval,
    compared_at timestamptz, least_lead interval, most_lead interval,
    here_server text, here_database bigint,
    known_history uuid, known_signs bigint, known_event bigint, known_term bigint,
    trusts_timelines boolean,
    OUT alive timestamptz, OUT signs_given bigint, OUT of_history uuid, OUT for_reason text,
    OUT at_base bigint, OUT trusted boolean,
    OUT is_new boolean, OUT was_in text, OUT is_in text
) LANGUAGE plpgsql SET lock_timeout = '50ms' AS $$
DECLARE
    shortest CONSTANT interval := least(outage_gap, shortest_outage);
    -- Two readings of one clock may seem to go back by as much.
    of_no_account CONSTANT interval := interval '20 ms';
    here_timeline CONSTANT text := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    previous timestamptz;
    present timestamptz;
    known_lead interval;
    latest service_histories;
    why text;
    is_fenced boolean;
    is_recorded boolean := false;
    was_set_back boolean := false;
BEGIN
    is_new := false;
    IF here_server IS NULL THEN
        SELECT c.system_identifier::text INTO STRICT here_server FROM pg_control_system() c;
        SELECT d.oid::bigint INTO STRICT here_database
        FROM pg_database d WHERE d.datname = current_database();
    END IF;
    LOCK TABLE heartbeats IN ROW EXCLUSIVE MODE;
    LOCK TABLE groups, sessions IN ACCESS SHARE MODE;
    -- Twice: without the lock on the row, for most signs find a fresh one, and with it.
    FOR is_locked IN 0..1 LOOP
        IF is_locked = 1 THEN
            PERFORM FROM service_liveness FOR UPDATE;
        END IF;
        SELECT l.alive_at, l.signs INTO STRICT previous, signs_given FROM service_liveness l;
        SELECT * INTO latest FROM service_histories h ORDER BY h.history_id DESC LIMIT 1;
        why := CASE
            WHEN latest.history_id IS NULL AND known_history IS NULL THEN 'first'
            WHEN latest.system_identifier <> here_server THEN 'another_server'
            WHEN latest.database_oid <> here_database THEN 'another_database'
            WHEN latest.timeline <> here_timeline AND NOT trusts_timelines THEN 'another_timeline'
            WHEN NOT EXISTS (SELECT FROM service_histories h WHERE h.history = known_history)
                AND known_history IS NOT NULL
                THEN 'came_back'
            WHEN latest.history = known_history AND signs_given < known_signs THEN 'went_back'
            WHEN latest.timeline <> here_timeline THEN 'another_timeline'
        END;
        present := clock_timestamp();
        IF why IS NULL AND most_lead IS NULL AND present BETWEEN previous AND previous + fresh THEN
            IF is_locked = 1 THEN
                -- Nothing was written that would have to last.
                PERFORM set_config('synchronous_commit', 'off', true);
            END IF;
            alive := previous;
            of_history := latest.history;
            for_reason := latest.reason;
            at_base := latest.base;
            trusted := latest.is_trusted;
            RETURN;
        END IF;
    END LOOP;
    is_fenced := why IS NOT NULL AND why <> 'first'
        AND NOT (why = 'another_timeline' AND trusts_timelines);
    IF previous - present > of_no_account THEN
        was_set_back := true;
        INSERT INTO service_clock_set_back (noticed_at, was_at) VALUES (present, previous);
        DELETE FROM service_clock_set_back
        WHERE step_id <= (
            SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC OFFSET 100 LIMIT 1);
        -- Outages of the old clock end in no future of the new one: a lease that was given since
        -- would be extended by them.
        UPDATE service_outages
        SET began_at = began_at - (recovered_at - present), recovered_at = present
        WHERE recovered_at > present;
        -- The present history was noticed as long before the last sign of life as it was by the old
        -- clock: whoever enters it from now on is in doubt for no longer than it would have been.
        UPDATE service_histories
        SET noticed_at = present - greatest(previous - noticed_at, interval '0')
        WHERE history_id = (
            SELECT history_id FROM service_histories
            WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1);
    ELSE
        present := greatest(present, previous);
    END IF;
    IF most_lead IS NOT NULL AND NOT was_set_back THEN
        -- Each replica notices it, in readings of its own; the first one notes it.
        SELECT coalesce(sum(clock_step), interval '0') INTO known_lead
        FROM service_outages WHERE recovered_at > compared_at;
        IF least_lead - known_lead > of_no_account / 2 THEN
            INSERT INTO service_outages (began_at, recovered_at, counts_from, clock_step)
            VALUES (least(previous, compared_at), present, interval '0', most_lead - known_lead);
            is_recorded := true;
        END IF;
    END IF;
    IF is_fenced AND NOT is_recorded THEN
        -- What clients sent meanwhile may be lost with the history: every lease that is here was
        -- alive when it ended.
        INSERT INTO service_outages (began_at, recovered_at, counts_from)
        VALUES (least(previous, present - interval '1 us'), present, interval '0');
        is_recorded := true;
    ELSIF most_lead IS NULL AND NOT is_recorded AND present - previous > shortest THEN
        INSERT INTO service_outages (began_at, recovered_at, counts_from)
        VALUES (previous, present, outage_gap);
        is_recorded := true;
    END IF;
    IF is_recorded THEN
        -- Every heartbeat reads those that are kept. One that is shorter than the gap matters only
        -- to leases given for less than four times its length, and to these no longer once four
        -- gaps have passed: by the time that passed and in which they could be renewed. What the
        -- clock was set forward by since then is none, and the first replica to notice that may
        -- take it for an outage as others are.
        DELETE FROM service_outages o
        WHERE o.recovered_at + coalesce((
                SELECT sum(greatest(s.clock_step, s.recovered_at - s.began_at))
                FROM service_outages s WHERE s.outage_id > o.outage_id
            ), interval '0') < present - CASE
                WHEN o.recovered_at - o.began_at <= o.counts_from
                    THEN least(4 * o.counts_from, interval '7 days')
                ELSE interval '7 days'
            END;
        DELETE FROM service_outages
        WHERE outage_id <= (
            SELECT outage_id FROM service_outages ORDER BY outage_id DESC OFFSET 100 LIMIT 1);
    END IF;
    IF why IS NOT NULL THEN
        is_new := true;
        was_in := format('server %s, database %s, timeline %s',
            latest.system_identifier, latest.database_oid, latest.timeline);
        is_in := format('server %s, database %s, timeline %s',
            here_server, here_database, here_timeline);
        at_base := 0;
        IF is_fenced THEN
            -- Whoever reads events waits for this lock: no id above the base is told before the
            -- history is.
            LOCK TABLE service_histories IN ROW EXCLUSIVE MODE;
            -- By the clock, so that of two copies that know nothing of each other no two numbers
            -- are the same. Other replicas may have told of somewhat later events than this one.
            SELECT greatest(s.last_value + 1, (extract(epoch FROM present) * 1000)::bigint,
                known_event + 1000000, known_term + 1,
                (SELECT max(h.base) + 1 FROM service_histories h))
            INTO at_base FROM role_transitions_transition_id_seq s;
            PERFORM setval('role_transitions_transition_id_seq', at_base);
        END IF;
        INSERT INTO service_histories
            (system_identifier, database_oid, timeline, noticed_at, last_sign_at, reason, base,
            is_trusted)
        VALUES (here_server, here_database, here_timeline, present,
            CASE WHEN why <> 'first' THEN previous END, why, at_base,
            why <> 'first' AND NOT is_fenced)
        RETURNING * INTO latest;
        IF why <> 'first' THEN
            INSERT INTO audit_log (action, tenant_id, identity, operation_id, before, after)
            VALUES ('history_noted', '*', 'service', latest.history::text,
                jsonb_build_object('In', was_in, 'LastSignAt', previous),
                jsonb_build_object('In', is_in, 'Reason', why, 'Base', at_base,
                    'IsTrusted', latest.is_trusted));
            PERFORM pg_notify('client_failover_events', '');
        END IF;
    END IF;
    UPDATE service_liveness SET alive_at = present, signs = signs_given + 1;
    alive := present;
    signs_given := signs_given + 1;
    of_history := latest.history;
    for_reason := latest.reason;
    at_base := latest.base;
    trusted := latest.is_trusted;
END
$$;
