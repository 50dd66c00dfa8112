-- Which history of the database the service works in. A standby that was promoted without the last seconds, a backup that was put
-- back or a former primary that takes the lead again knows less than clients were told: that is noticed, and fenced off.
-- A replica that does not know this version goes on working, as unsafe as it was: it notices nothing and fences nothing off.

CREATE TABLE service_histories (
    history_id bigint GENERATED ALWAYS AS IDENTITY,
    history uuid NOT NULL DEFAULT gen_random_uuid(),
    system_identifier text NOT NULL,
    database_oid bigint NOT NULL,
    timeline text NOT NULL,
    noticed_at timestamptz NOT NULL,
    last_sign_at timestamptz,
    reason text NOT NULL,
    base bigint NOT NULL,
    is_trusted boolean NOT NULL DEFAULT false,
    CONSTRAINT service_histories_one_row_per_history PRIMARY KEY (history_id),
    CONSTRAINT service_histories_each_has_an_identity UNIQUE (history),
    CONSTRAINT service_histories_reason_is_known CHECK (reason IN (
        'first', 'another_server', 'another_database', 'another_timeline', 'came_back', 'went_back')),
    CONSTRAINT service_histories_base_never_negative CHECK (base >= 0),
    CONSTRAINT service_histories_only_a_timeline_is_trusted CHECK (NOT is_trusted OR (reason = 'another_timeline' AND base = 0)),
    CONSTRAINT service_histories_times_are_finite CHECK (isfinite(noticed_at) AND isfinite(last_sign_at))
);

COMMENT ON TABLE service_histories IS 'The histories of this database that the service has worked in. The latest is the present one: while the server, the database or the timeline is another, or a replica knows of more than is here, nothing is decided before a new one is noted.';
COMMENT ON COLUMN service_histories.history_id IS 'Rises with each. Two copies of a database give the same numbers to different histories.';
COMMENT ON COLUMN service_histories.history IS 'Its identity, which no other history has in any copy of the database.';
COMMENT ON COLUMN service_histories.system_identifier IS 'The server that it is on, as pg_control_system() names it.';
COMMENT ON COLUMN service_histories.database_oid IS 'The database of that server.';
COMMENT ON COLUMN service_histories.timeline IS 'The timeline of the server''s log, in eight hexadecimal digits: another one with each promotion.';
COMMENT ON COLUMN service_histories.noticed_at IS 'When it was noticed: nobody may act on a lease of the one before for longer than one lease after that.';
COMMENT ON COLUMN service_histories.last_sign_at IS 'The last sign of life of the one before that is still here: what was committed after it may be lost. Null for the first.';
COMMENT ON COLUMN service_histories.reason IS 'How it was noticed: first (nothing to compare with), another_server, another_database, another_timeline, came_back (the service worked in one that is not known here), went_back (less is here than was committed).';
COMMENT ON COLUMN service_histories.base IS 'Terms of groups and ids of events go on above this number, which is higher than any that the one before gave out. 0 where they go on as they were.';
COMMENT ON COLUMN service_histories.is_trusted IS 'Whether nothing was fenced off, because the setting database-history says that a promotion loses nothing.';

-- What there is was written here, as far as anybody knows.
INSERT INTO service_histories (system_identifier, database_oid, timeline, noticed_at, reason, base)
SELECT c.system_identifier::text, d.oid::bigint, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), clock_timestamp(), 'first', 0
FROM pg_control_system() c, pg_database d WHERE d.datname = current_database();

ALTER TABLE service_liveness ADD COLUMN signs bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN service_liveness.signs IS 'How many signs of life were written. A replica that remembers a higher number is a witness that this database went back.';

-- Both without a default that would have to be written: the tables are as large as before.
ALTER TABLE groups ADD COLUMN history_id bigint NOT NULL DEFAULT 0, ADD COLUMN in_doubt_until timestamptz;
ALTER TABLE groups ADD CONSTRAINT groups_doubt_is_finite CHECK (isfinite(in_doubt_until));

COMMENT ON COLUMN groups.history_id IS 'The history that its roles and its term belong to. Where that is not the present one, it begins anew in it when it is next decided on. 0 if nobody noted it.';
COMMENT ON COLUMN groups.in_doubt_until IS 'Until then somebody may act on a lease that was lost with a history: Primary is only who says that it acts. Null where nobody is in doubt.';

ALTER TABLE audit_log DROP CONSTRAINT audit_log_action_is_known;
ALTER TABLE audit_log ADD CONSTRAINT audit_log_action_is_known CHECK (action IN (
    'group_created', 'group_changed', 'group_deleted', 'group_deleted_by_force', 'live_session_deleted',
    'key_created', 'key_revoked', 'history_noted'));

COMMENT ON COLUMN audit_log.tenant_id IS 'The tenant; of a key the one it is good in, * for all, as for what concerns all.';

-- The timeline is null on a standby, which readers may look at. It costs less than a microsecond, and is another one from the very
-- moment of a promotion on; what pg_control_checkpoint() says is behind.
CREATE OR REPLACE VIEW service_moment AS
SELECT
    clock_timestamp() AS now,
    l.alive_at,
    ARRAY(SELECT began_at FROM service_outages ORDER BY outage_id) AS began,
    ARRAY(SELECT recovered_at FROM service_outages ORDER BY outage_id) AS recovered,
    ARRAY(SELECT (extract(epoch FROM counts_from) * 1000000)::bigint FROM service_outages ORDER BY outage_id) AS gaps_us,
    ARRAY(SELECT coalesce((extract(epoch FROM clock_step) * 1000000)::bigint, 0) FROM service_outages ORDER BY outage_id)
        AS steps_us,
    coalesce((SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1), 0) AS clock_set_back,
    l.signs,
    h.history,
    h.system_identifier,
    h.database_oid,
    h.timeline,
    CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS present_timeline,
    f.history_id,
    f.noticed_at AS history_noticed_at,
    f.base
FROM service_liveness l
LEFT JOIN LATERAL (SELECT * FROM service_histories ORDER BY history_id DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT * FROM service_histories WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1) f ON true;

COMMENT ON COLUMN service_moment.signs IS 'How many signs of life were written.';
COMMENT ON COLUMN service_moment.history IS 'The identity of the latest history; null where none was noted.';
COMMENT ON COLUMN service_moment.system_identifier IS 'The server that it is on.';
COMMENT ON COLUMN service_moment.database_oid IS 'The database of that server.';
COMMENT ON COLUMN service_moment.timeline IS 'The timeline that it is on.';
COMMENT ON COLUMN service_moment.present_timeline IS 'The timeline that the server is on now; null on a standby.';
COMMENT ON COLUMN service_moment.history_id IS 'The number of the latest history that something was fenced off at, or the first.';
COMMENT ON COLUMN service_moment.history_noticed_at IS 'When that was noticed.';
COMMENT ON COLUMN service_moment.base IS 'What its terms are above.';

-- A doubt is a time like that of a handover.
CREATE OR REPLACE FUNCTION base_leases_anew(keys uuid[]) RETURNS void LANGUAGE plpgsql AS $$
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
        END,
        in_doubt_until = CASE WHEN g.in_doubt_until IS NOT NULL THEN
            least(g.in_doubt_until, latest_at + greatest(failover_timeout(g.failover_timeout_ticks),
                (SELECT max(h.lease_until - h.received_at) FROM heartbeats h WHERE h.group_key = g.group_key)))
        END
    WHERE g.group_key = ANY (keys) AND g.clock_set_back < latest_id;
    -- What was received in the future of the new clock was received by the old one.
    UPDATE heartbeats h
    SET received_at = latest_at, lease_until = latest_at + (h.lease_until - h.received_at)
    WHERE h.group_key = ANY (keys) AND h.received_at > latest_at;
END
$$;

-- A sign of life says in which history it is given. It is given in no history that the database is not in: a new one is noted with it,
-- in the same transaction and under the lock on the row that all replicas share, so that they note one.
--
-- What is here is compared with what the database was in last, and with what the replica remembers. Where somebody else noted a later
-- history than the one that the replica remembers, that one is taken.
CREATE FUNCTION note_service_alive(
    outage_gap interval, shortest_outage interval, fresh interval, compared_at timestamptz, least_lead interval, most_lead interval,
    here_server text, here_database bigint, known_history uuid, known_signs bigint, known_event bigint, known_term bigint,
    trusts_timelines boolean,
    OUT alive timestamptz, OUT signs_given bigint, OUT of_history uuid, OUT for_reason text, OUT at_base bigint, OUT trusted boolean,
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
        SELECT d.oid::bigint INTO STRICT here_database FROM pg_database d WHERE d.datname = current_database();
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
            WHEN NOT EXISTS (SELECT FROM service_histories h WHERE h.history = known_history) AND known_history IS NOT NULL
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
    is_fenced := why IS NOT NULL AND why <> 'first' AND NOT (why = 'another_timeline' AND trusts_timelines);
    IF previous - present > of_no_account THEN
        was_set_back := true;
        INSERT INTO service_clock_set_back (noticed_at, was_at) VALUES (present, previous);
        DELETE FROM service_clock_set_back
        WHERE step_id <= (SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC OFFSET 100 LIMIT 1);
        -- Outages of the old clock end in no future of the new one: a lease that was given since would be extended by them.
        UPDATE service_outages SET began_at = began_at - (recovered_at - present), recovered_at = present
        WHERE recovered_at > present;
    ELSE
        present := greatest(present, previous);
    END IF;
    IF most_lead IS NOT NULL AND NOT was_set_back THEN
        -- Each replica notices it, in readings of its own; the first one notes it.
        SELECT coalesce(sum(clock_step), interval '0') INTO known_lead FROM service_outages WHERE recovered_at > compared_at;
        IF least_lead - known_lead > of_no_account / 2 THEN
            INSERT INTO service_outages (began_at, recovered_at, counts_from, clock_step)
            VALUES (least(previous, compared_at), present, interval '0', most_lead - known_lead);
            is_recorded := true;
        END IF;
    END IF;
    IF is_fenced AND NOT is_recorded THEN
        -- What clients sent meanwhile may be lost with the history: every lease that is here was alive when it ended.
        INSERT INTO service_outages (began_at, recovered_at, counts_from)
        VALUES (least(previous, present - interval '1 us'), present, interval '0');
        is_recorded := true;
    ELSIF most_lead IS NULL AND NOT is_recorded AND present - previous > shortest THEN
        INSERT INTO service_outages (began_at, recovered_at, counts_from) VALUES (previous, present, outage_gap);
        is_recorded := true;
    END IF;
    IF is_recorded THEN
        -- Every heartbeat reads those that are kept. One that is shorter than the gap matters only to leases given for less
        -- than four times its length, and to these no longer once four gaps have passed.
        DELETE FROM service_outages
        WHERE recovered_at < present - interval '7 days'
            OR (recovered_at - began_at <= counts_from AND recovered_at < present - 4 * counts_from);
        DELETE FROM service_outages
        WHERE outage_id <= (SELECT outage_id FROM service_outages ORDER BY outage_id DESC OFFSET 100 LIMIT 1);
    END IF;
    IF why IS NOT NULL THEN
        is_new := true;
        was_in := format('server %s, database %s, timeline %s', latest.system_identifier, latest.database_oid, latest.timeline);
        is_in := format('server %s, database %s, timeline %s', here_server, here_database, here_timeline);
        at_base := 0;
        IF is_fenced THEN
            -- Whoever reads events waits for this lock: no id above the base is told before the history is.
            LOCK TABLE service_histories IN ROW EXCLUSIVE MODE;
            -- By the clock, so that of two copies that know nothing of each other no two numbers are the same. Other replicas may
            -- have told of somewhat later events than this one.
            SELECT greatest(s.last_value + 1, (extract(epoch FROM present) * 1000)::bigint, known_event + 1000000, known_term + 1,
                (SELECT max(h.base) + 1 FROM service_histories h))
            INTO at_base FROM role_transitions_transition_id_seq s;
            PERFORM setval('role_transitions_transition_id_seq', at_base);
        END IF;
        INSERT INTO service_histories (system_identifier, database_oid, timeline, noticed_at, last_sign_at, reason, base, is_trusted)
        VALUES (here_server, here_database, here_timeline, present, CASE WHEN why <> 'first' THEN previous END, why, at_base,
            why <> 'first' AND NOT is_fenced)
        RETURNING * INTO latest;
        IF why <> 'first' THEN
            INSERT INTO audit_log (action, tenant_id, identity, operation_id, before, after)
            VALUES ('history_noted', '*', 'service', latest.history::text, jsonb_build_object('In', was_in, 'LastSignAt', previous),
                jsonb_build_object('In', is_in, 'Reason', why, 'Base', at_base, 'IsTrusted', latest.is_trusted));
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

COMMENT ON FUNCTION note_service_alive(interval, interval, interval, timestamptz, interval, interval, text, bigint, uuid, bigint, bigint, bigint, boolean) IS 'A durable sign of life of a replica, unless there is a fresh one, in the history that the database is in. Notes a new history where the server, the database or the timeline is another than in the latest, or where the replica remembers a history or a number of signs that is not here; what it remembers of events and terms is below the base. Without a server and a database it asks for them. Otherwise as the one of six arguments.';
