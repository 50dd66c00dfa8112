-- The whole state of the service. Instants are this server's clock unless a comment says otherwise.
-- What a table or a column means is in its COMMENT; why a constraint or an index is there stands
-- before it.
--
-- The group's key comes first in every primary key of what belongs to a group, and nothing unique
-- crosses groups, so that the tables can be spread over several servers by that one column.

-- Groups and their sessions.

CREATE TABLE groups (
    group_key uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    name text,
    description text,
    failover_timeout_ticks bigint NOT NULL,
    term bigint NOT NULL DEFAULT 0,
    vacancy text NOT NULL DEFAULT 'never_held',
    watermark_base_at timestamptz,
    handover_from text COLLATE "C",
    handover_until timestamptz,
    handover_heard_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    configured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    clock_set_back bigint NOT NULL DEFAULT 0,
    history_id bigint NOT NULL DEFAULT 0,
    in_doubt_until timestamptz,
    -- The key is computed from the path, so this is also what makes a path name one group.
    CONSTRAINT groups_one_row_per_path PRIMARY KEY (group_key),
    -- The bounds that the interface promises. In ticks of 100 ns.
    CONSTRAINT groups_timeout_between_100_ms_and_24_h
        CHECK (failover_timeout_ticks BETWEEN 1000000 AND 864000000000),
    -- No decision could be made by an instant that is not finite.
    CONSTRAINT groups_times_are_finite CHECK (
        isfinite(watermark_base_at) AND isfinite(handover_until)
        AND isfinite(handover_heard_until)),
    CONSTRAINT groups_doubt_is_finite CHECK (isfinite(in_doubt_until)),
    CONSTRAINT groups_term_never_negative CHECK (term >= 0),
    CONSTRAINT groups_vacancy_is_known
        CHECK (vacancy IN ('never_held', 'lapsed', 'yielded', 'deleted')),
    -- A handover from a session has all it needs; one from a session that is gone has its end
    -- alone.
    CONSTRAINT groups_handover_is_whole CHECK (
        num_nulls(handover_from, handover_heard_until) IN (0, 2)
        AND (handover_from IS NULL OR handover_until IS NOT NULL))
-- Room on each page for the next version of a row, which then touches no index (HOT).
) WITH (fillfactor = 70);

-- For lists, which are in order of the id's bytes. Not unique: the key is. By a hash of where the
-- groups are: an index entry has room for one id of 260 characters of four bytes, but not for
-- three.
CREATE INDEX groups_by_path
    ON groups (hashtextextended(tenant_id || '/' || namespace_id, 0), group_id);

-- For the limit of groups per tenant.
CREATE INDEX groups_by_tenant ON groups (tenant_id);

COMMENT ON TABLE groups IS 'A failover group: its configuration, and what its sessions share.';
COMMENT ON COLUMN groups.group_key IS
    'UUID version 5 of tenant, namespace and group id, computed by the service from the path.';
COMMENT ON COLUMN groups.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN groups.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN groups.group_id IS 'The group id in the path.';
COMMENT ON COLUMN groups.name IS 'A name for people.';
COMMENT ON COLUMN groups.description IS 'A description for people.';
COMMENT ON COLUMN groups.failover_timeout_ticks IS
    'How long a heartbeat keeps its session live, in ticks of 100 ns.';
COMMENT ON COLUMN groups.term IS
    'How often Primary was granted at this path to a session that did not hold it; never falls, '
    'and a group that follows a deleted one goes on from its term.';
COMMENT ON COLUMN groups.vacancy IS
    'Why nobody holds Primary (without meaning while somebody does).';
COMMENT ON COLUMN groups.watermark_base_at IS
    'What deleted sessions contributed to the watermark; the watermark itself is in group_status.';
COMMENT ON COLUMN groups.handover_from IS
    'The session that yielded and may not have heard of it; null when no handover is open, or one '
    'from a session that is gone.';
COMMENT ON COLUMN groups.handover_until IS
    'The end of the lease that the last Primary held before; nobody else is granted Primary until '
    'then, or until it acknowledges. Without handover_from: it was deleted by somebody else, or '
    'its group was, and nobody can acknowledge.';
COMMENT ON COLUMN groups.handover_heard_until IS
    'Its heard_until when it yielded; an acknowledgement that was not sent after that is not '
    'believed.';
COMMENT ON COLUMN groups.created_at IS 'When the group was created.';
COMMENT ON COLUMN groups.configured_at IS 'When its configuration last changed.';
COMMENT ON COLUMN groups.clock_set_back IS
    'The last step_id of service_clock_set_back that its leases were based anew for.';
COMMENT ON COLUMN groups.history_id IS
    'The history that its roles and its term belong to. Where that is not the present one, it '
    'begins anew in it when it is next decided on. 0 if nobody noted it.';
COMMENT ON COLUMN groups.in_doubt_until IS
    'Until then somebody may act on a lease that was lost with a history: Primary is only who says '
    'that it acts. Null where nobody is in doubt.';

CREATE TABLE sessions (
    group_key uuid NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    name text,
    role smallint NOT NULL DEFAULT 0,
    role_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    registered_by text,
    CONSTRAINT sessions_one_row_per_session PRIMARY KEY (group_key, session_id),
    -- A group takes its sessions along.
    CONSTRAINT sessions_belong_to_a_group
        FOREIGN KEY (group_key) REFERENCES groups (group_key) ON DELETE CASCADE,
    CONSTRAINT sessions_role_is_known CHECK (role IN (0, 1, 2))
) WITH (fillfactor = 80);

-- The two promises that the service's own decisions must never break, kept by the database as well.
CREATE UNIQUE INDEX sessions_at_most_one_primary ON sessions (group_key) WHERE role = 1;
CREATE UNIQUE INDEX sessions_at_most_one_pending_primary ON sessions (group_key) WHERE role = 2;

COMMENT ON TABLE sessions IS
    'A client registered in a group, and the role it was last told (or that was taken from it '
    'since).';
COMMENT ON COLUMN sessions.group_key IS 'The group.';
COMMENT ON COLUMN sessions.session_id IS 'The session id in the path.';
COMMENT ON COLUMN sessions.name IS 'A name for people.';
COMMENT ON COLUMN sessions.role IS
    '0 Secondary, 1 Primary, 2 PendingPrimary. As stored: session_status has the role that is true '
    'now.';
COMMENT ON COLUMN sessions.role_changed_at IS 'When the role last changed.';
COMMENT ON COLUMN sessions.registered_at IS
    'When the session registered; of equals in rank the earliest is first.';
COMMENT ON COLUMN sessions.registered_by IS
    'The identity that registered it; null if that was not noted.';

CREATE TABLE heartbeats (
    group_key uuid NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    percent_healthy_streams numeric NOT NULL,
    heartbeat_time timestamptz NOT NULL,
    last_data_send_time timestamptz,
    received_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    heard_until timestamptz NOT NULL,
    primary_sent_until timestamptz,
    heard_counts_until timestamptz,
    CONSTRAINT heartbeats_one_row_per_session PRIMARY KEY (group_key, session_id),
    -- A session takes its heartbeat along.
    CONSTRAINT heartbeats_belong_to_a_session FOREIGN KEY (group_key, session_id)
        REFERENCES sessions (group_key, session_id) ON DELETE CASCADE,
    -- No decision could be made by an instant that is not finite.
    CONSTRAINT heartbeats_times_are_finite CHECK (
        isfinite(heartbeat_time) AND isfinite(last_data_send_time) AND isfinite(received_at)
        AND isfinite(lease_until) AND isfinite(heard_until) AND isfinite(primary_sent_until)),
    CONSTRAINT heartbeats_heard_counts_until_is_finite CHECK (isfinite(heard_counts_until)),
    CONSTRAINT heartbeats_health_is_a_percentage
        CHECK (percent_healthy_streams BETWEEN 0 AND 100)
-- Updated all the time: half of each page is left free, and no changing column has an index, so
-- that an update stays on its page and touches no index (HOT).
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE heartbeats IS 'The latest heartbeat of each session that has sent one.';
COMMENT ON COLUMN heartbeats.group_key IS 'The group.';
COMMENT ON COLUMN heartbeats.session_id IS 'The session.';
COMMENT ON COLUMN heartbeats.percent_healthy_streams IS
    'The health it reported, 0 to 100, exactly as reported.';
COMMENT ON COLUMN heartbeats.heartbeat_time IS
    'When the client sent it, by the client''s clock; the time of receipt where it did not say.';
COMMENT ON COLUMN heartbeats.last_data_send_time IS
    'The time of the last data it sent, as reported; null for none.';
COMMENT ON COLUMN heartbeats.received_at IS 'When it arrived.';
COMMENT ON COLUMN heartbeats.lease_until IS
    'The end of the lease it gave: the session is live before that. An outage of the service '
    'extends it, see lease_end().';
COMMENT ON COLUMN heartbeats.heard_until IS
    'By the client''s clock: up to then, a heartbeat that says "I act as Secondary" may be an old '
    'message, delayed or repeated.';
COMMENT ON COLUMN heartbeats.primary_sent_until IS
    'The latest time of data that the session reported while Primary: its part of the watermark.';
COMMENT ON COLUMN heartbeats.heard_counts_until IS
    'Until when heard_until counts in full where it is ahead of this server''s clock; afterwards '
    'it counts as this instant. Null, or before received_at, counts as the end of the lease.';

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
    CONSTRAINT former_groups_times_are_finite
        CHECK (isfinite(acted_on_until) AND isfinite(deleted_at))
);

COMMENT ON TABLE former_groups IS
    'What the last group that was deleted at a path left behind, for the next one there to go on '
    'from. Kept for good, also while there is one again: without a row, its terms may begin again '
    'at 1.';
COMMENT ON COLUMN former_groups.group_key IS
    'The key of the group: the same for every group at that path.';
COMMENT ON COLUMN former_groups.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN former_groups.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN former_groups.group_id IS 'The group id in the path.';
COMMENT ON COLUMN former_groups.last_term IS
    'Its term when it was deleted: the first term of the next group is the one above.';
COMMENT ON COLUMN former_groups.acted_on_until IS
    'Until when a client may have acted on a lease of it; nobody is granted in the next group '
    'before. Null where nobody may have.';
COMMENT ON COLUMN former_groups.deleted_at IS 'When a group was last deleted at that path.';

-- What happened, for the history and for the streams of events.

CREATE TABLE role_transitions (
    group_key uuid NOT NULL,
    transition_id bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    from_role smallint NOT NULL,
    to_role smallint NOT NULL,
    term bigint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT role_transitions_in_order_of_their_group PRIMARY KEY (group_key, transition_id),
    CONSTRAINT role_transitions_change_something CHECK (from_role <> to_role),
    CONSTRAINT role_transitions_roles_are_known
        CHECK (from_role IN (0, 1, 2) AND to_role IN (0, 1, 2)),
    -- Nothing writes 'override' and 'override_ended': they are kept for a wish of an operator's.
    CONSTRAINT role_transitions_reason_is_known CHECK (reason IN (
        'first_heartbeat', 'lease_lapsed', 'healthier', 'yielded', 'handover_completed',
        'recovered', 'session_deleted', 'superseded', 'override', 'override_ended')),
    CONSTRAINT role_transitions_actor_is_known CHECK (actor IN ('heartbeat', 'sweep', 'operator'))
);

-- For "what happened last night" over all groups; rows arrive in order of time, so a block index is
-- enough.
CREATE INDEX role_transitions_by_time ON role_transitions USING brin (recorded_at);

-- For what came after an id, over all groups: what every replica asks several times a second. Not
-- unique: the sequence is.
CREATE INDEX role_transitions_by_id ON role_transitions (transition_id);

COMMENT ON TABLE role_transitions IS
    'Every change of a role, written in the transaction that made it. Rows outlive their group.';
COMMENT ON COLUMN role_transitions.group_key IS 'The group.';
COMMENT ON COLUMN role_transitions.transition_id IS 'Rises with time within a group.';
COMMENT ON COLUMN role_transitions.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN role_transitions.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN role_transitions.group_id IS 'The group id in the path.';
COMMENT ON COLUMN role_transitions.session_id IS 'The session whose role changed.';
COMMENT ON COLUMN role_transitions.from_role IS
    'The role before: 0 Secondary, 1 Primary, 2 PendingPrimary.';
COMMENT ON COLUMN role_transitions.to_role IS 'The role after.';
COMMENT ON COLUMN role_transitions.term IS 'The group''s term after the change.';
COMMENT ON COLUMN role_transitions.reason IS 'Why: one of a closed list.';
COMMENT ON COLUMN role_transitions.actor IS
    'What made the change: a heartbeat, the sweep, or an operator (deletion).';
COMMENT ON COLUMN role_transitions.recorded_at IS 'The instant the change was decided at.';

CREATE TABLE configuration_changes (
    group_key uuid NOT NULL,
    -- From the same sequence as the changes of roles, so that one id orders both.
    change_id bigint NOT NULL DEFAULT nextval('role_transitions_transition_id_seq'),
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    kind text NOT NULL,
    name text,
    description text,
    failover_timeout_ticks bigint,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT configuration_changes_in_order_of_their_group PRIMARY KEY (group_key, change_id),
    CONSTRAINT configuration_changes_kind_is_known CHECK (kind IN (
        'group_created', 'group_changed', 'group_deleted', 'session_registered',
        'session_deleted')),
    CONSTRAINT configuration_changes_name_a_session_where_one_changed CHECK (
        (session_id IS NOT NULL) = (kind IN ('session_registered', 'session_deleted'))),
    CONSTRAINT configuration_changes_of_a_group_have_its_timeout CHECK (
        (failover_timeout_ticks IS NOT NULL) = (kind IN ('group_created', 'group_changed')))
);

-- As role_transitions_by_id.
CREATE INDEX configuration_changes_by_id ON configuration_changes (change_id);

COMMENT ON TABLE configuration_changes IS
    'Every change of a group''s configuration and of its set of sessions, written in the '
    'transaction that made it. Rows outlive their group.';
COMMENT ON COLUMN configuration_changes.group_key IS 'The group.';
COMMENT ON COLUMN configuration_changes.change_id IS
    'Rises with time within a group, and shares its numbers with role_transitions.transition_id: '
    'the id of the event.';
COMMENT ON COLUMN configuration_changes.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN configuration_changes.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN configuration_changes.group_id IS 'The group id in the path.';
COMMENT ON COLUMN configuration_changes.session_id IS
    'The session that was registered or deleted; null where the group itself changed.';
COMMENT ON COLUMN configuration_changes.kind IS
    'What happened: one of a closed list. A deleted group takes its sessions along without a row '
    'for each.';
COMMENT ON COLUMN configuration_changes.name IS
    'The name that the group or the registered session has now.';
COMMENT ON COLUMN configuration_changes.description IS 'The description that the group has now.';
COMMENT ON COLUMN configuration_changes.failover_timeout_ticks IS
    'The timeout that the group has now, in ticks of 100 ns; null where a session changed or the '
    'group is gone.';
COMMENT ON COLUMN configuration_changes.recorded_at IS 'When the change was made.';

-- The service itself: its signs of life, what was wrong with the clock, and which history of the
-- database it works in.

-- Without columns or rows: only its lock is used. A table's lock can be waited for before the
-- snapshot is taken; an advisory lock is taken by a SELECT, whose snapshot would be older than what
-- the one before has written.
CREATE TABLE heartbeat_turns ();

COMMENT ON TABLE heartbeat_turns IS
    'Empty. Replicas whose heartbeat transactions keep meeting each other lock it one after the '
    'other, in a mode that hinders nobody else.';

-- One row, rewritten several times a second by each replica, outside serializable isolation:
-- heartbeats read it, and a serializable writer of it would conflict with every one of them.
CREATE TABLE service_liveness (
    only_row boolean NOT NULL DEFAULT true,
    alive_at timestamptz NOT NULL,
    signs bigint NOT NULL DEFAULT 0,
    CONSTRAINT service_liveness_has_one_row PRIMARY KEY (only_row),
    CONSTRAINT service_liveness_only_row_is_true CHECK (only_row)
) WITH (fillfactor = 10);

INSERT INTO service_liveness (alive_at) VALUES (clock_timestamp());

COMMENT ON TABLE service_liveness IS 'When any replica last reached this database.';
COMMENT ON COLUMN service_liveness.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN service_liveness.alive_at IS 'The last sign of life of any replica.';
COMMENT ON COLUMN service_liveness.signs IS
    'How many signs of life were written. A replica that remembers a higher number is a witness '
    'that this database went back.';

CREATE TABLE service_outages (
    outage_id bigint GENERATED ALWAYS AS IDENTITY,
    began_at timestamptz NOT NULL,
    recovered_at timestamptz NOT NULL,
    counts_from interval NOT NULL DEFAULT '2 s',
    -- A step forward of the clock is an outage that counts for every lease. Handovers end by an
    -- instant and not after a time that was given, so these need its size.
    clock_step interval,
    CONSTRAINT service_outages_one_row_per_outage PRIMARY KEY (outage_id),
    CONSTRAINT service_outages_end_after_they_began CHECK (recovered_at > began_at)
);

COMMENT ON TABLE service_outages IS
    'Times in which no replica reached this database, so that no client could renew its lease. '
    'Short ones are kept while they matter, others for a week, the latest 100.';
COMMENT ON COLUMN service_outages.outage_id IS 'Rises with time.';
COMMENT ON COLUMN service_outages.began_at IS 'The last sign of life before it.';
COMMENT ON COLUMN service_outages.recovered_at IS 'The first sign of life after it.';
COMMENT ON COLUMN service_outages.counts_from IS
    'The outage gap: an outage counts for every lease if it lasted longer, and for a short lease '
    'if it lasted longer than a quarter of it.';
COMMENT ON COLUMN service_outages.clock_step IS
    'By how much this server''s clock was set forward in it; null for an outage that is none of '
    'the clock''s.';

-- A group is based anew by whoever next decides on it, in the same transaction, or by the sweep.
CREATE TABLE service_clock_set_back (
    step_id bigint GENERATED ALWAYS AS IDENTITY,
    noticed_at timestamptz NOT NULL,
    was_at timestamptz NOT NULL,
    CONSTRAINT service_clock_set_back_one_row_per_step PRIMARY KEY (step_id),
    CONSTRAINT service_clock_set_back_goes_back CHECK (noticed_at < was_at)
);

COMMENT ON TABLE service_clock_set_back IS
    'When this server''s clock was found set back. Leases and handovers given before are based '
    'anew on the new clock: they end no later than one of their lengths after that.';
COMMENT ON COLUMN service_clock_set_back.step_id IS 'Rises with each.';
COMMENT ON COLUMN service_clock_set_back.noticed_at IS 'When it was noticed, by the new clock.';
COMMENT ON COLUMN service_clock_set_back.was_at IS
    'The last sign of life before it, by the old clock.';

-- A standby that was promoted without the last seconds, a backup that was put back or a former
-- primary that takes the lead again knows less than clients were told: that is noticed, and fenced
-- off.
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
    -- The number is the same in two copies of a database; this is not.
    CONSTRAINT service_histories_each_has_an_identity UNIQUE (history),
    CONSTRAINT service_histories_reason_is_known CHECK (reason IN (
        'first', 'another_server', 'another_database', 'another_timeline', 'came_back',
        'went_back')),
    CONSTRAINT service_histories_base_never_negative CHECK (base >= 0),
    -- Whatever else changed is never taken on trust.
    CONSTRAINT service_histories_only_a_timeline_is_trusted
        CHECK (NOT is_trusted OR (reason = 'another_timeline' AND base = 0)),
    CONSTRAINT service_histories_times_are_finite
        CHECK (isfinite(noticed_at) AND isfinite(last_sign_at))
);

-- The one that these tables are made in. There is nothing yet that could be in doubt.
INSERT INTO service_histories
    (system_identifier, database_oid, timeline, noticed_at, reason, base)
SELECT c.system_identifier::text, d.oid::bigint,
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), clock_timestamp(), 'first', 0
FROM pg_control_system() c, pg_database d WHERE d.datname = current_database();

COMMENT ON TABLE service_histories IS
    'The histories of this database that the service has worked in. The latest is the present one: '
    'while the server, the database or the timeline is another, or a replica knows of more than is '
    'here, nothing is decided before a new one is noted.';
COMMENT ON COLUMN service_histories.history_id IS
    'Rises with each. Two copies of a database give the same numbers to different histories.';
COMMENT ON COLUMN service_histories.history IS
    'Its identity, which no other history has in any copy of the database.';
COMMENT ON COLUMN service_histories.system_identifier IS
    'The server that it is on, as pg_control_system() names it.';
COMMENT ON COLUMN service_histories.database_oid IS 'The database of that server.';
COMMENT ON COLUMN service_histories.timeline IS
    'The timeline of the server''s log, in eight hexadecimal digits: another one with each '
    'promotion.';
COMMENT ON COLUMN service_histories.noticed_at IS
    'When it was noticed: nobody may act on a lease of the one before for longer than one lease '
    'after that.';
COMMENT ON COLUMN service_histories.last_sign_at IS
    'The last sign of life of the one before that is still here: what was committed after it may '
    'be lost. Null for the first.';
COMMENT ON COLUMN service_histories.reason IS
    'How it was noticed: first (nothing to compare with), another_server, another_database, '
    'another_timeline, came_back (the service worked in one that is not known here), went_back '
    '(less is here than was committed).';
COMMENT ON COLUMN service_histories.base IS
    'Terms of groups and ids of events go on above this number, which is higher than any that the '
    'one before gave out. 0 where they go on as they were.';
COMMENT ON COLUMN service_histories.is_trusted IS
    'Whether nothing was fenced off, because the setting database-history says that a promotion '
    'loses nothing.';

-- Who may come in by a key of the service's own, and who changed what.

CREATE TABLE api_keys (
    key_id bigint GENERATED ALWAYS AS IDENTITY,
    key_hash bytea NOT NULL,
    name text NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    namespaces text[],
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    identity_id bigint,
    groups text[],
    CONSTRAINT api_keys_one_row_per_key PRIMARY KEY (key_id),
    CONSTRAINT api_keys_one_row_per_secret UNIQUE (key_hash),
    CONSTRAINT api_keys_hash_is_sha_256 CHECK (octet_length(key_hash) = 32),
    CONSTRAINT api_keys_name_is_not_empty CHECK (name <> ''),
    CONSTRAINT api_keys_tenant_is_not_empty CHECK (tenant_id <> ''),
    -- Null is all of them; an empty list could be taken for that.
    CONSTRAINT api_keys_namespaces_are_not_empty
        CHECK (cardinality(namespaces) > 0 AND array_position(namespaces, NULL) IS NULL),
    CONSTRAINT api_keys_groups_are_not_empty
        CHECK (cardinality(groups) > 0 AND array_position(groups, NULL) IS NULL),
    -- The role of a key for some groups has a name of its own. Whoever does not know of patterns
    -- takes it for no role and refuses the key, instead of letting it into the whole namespace.
    CONSTRAINT api_keys_role_is_known CHECK (role IN (
        'metrics', 'viewer', 'client', 'admin', 'group-viewer', 'group-client', 'group-admin')),
    CONSTRAINT api_keys_role_tells_of_groups
        CHECK ((groups IS NOT NULL) = starts_with(role, 'group-'))
);

COMMENT ON TABLE api_keys IS
    'Keys of the service''s own. A revoked or expired one stays, as a record.';
COMMENT ON COLUMN api_keys.key_id IS 'The number by which a key is revoked.';
COMMENT ON COLUMN api_keys.key_hash IS
    'SHA-256 of the key''s text, which is nowhere kept: it is 256 random bits, so a plain hash '
    'tells nothing.';
COMMENT ON COLUMN api_keys.name IS
    'A name for people; several keys may share one, as while one replaces another.';
COMMENT ON COLUMN api_keys.tenant_id IS 'The tenant it is good in; * for all.';
COMMENT ON COLUMN api_keys.namespaces IS
    'The namespaces it is good in; null for all of the tenant''s.';
COMMENT ON COLUMN api_keys.role IS
    'What may be done with it: metrics, viewer, client or admin; with group- before it where it is '
    'good for some groups only.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends; null for never.';
COMMENT ON COLUMN api_keys.last_used_at IS 'When it was last used, to a minute or two.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; null if it was not.';
COMMENT ON COLUMN api_keys.identity_id IS
    'The number of the key whose place it takes, as whose caller it counts; null for its own.';
COMMENT ON COLUMN api_keys.groups IS
    'Patterns of the groups it is good for, * for any characters; null for all where it is good.';

-- Replicas look at this one row every second and read the keys only when it rose.
CREATE TABLE api_key_changes (
    only_row boolean NOT NULL DEFAULT true,
    revision bigint NOT NULL DEFAULT 0,
    CONSTRAINT api_key_changes_has_one_row PRIMARY KEY (only_row),
    CONSTRAINT api_key_changes_only_row_is_true CHECK (only_row)
);

INSERT INTO api_key_changes DEFAULT VALUES;

COMMENT ON TABLE api_key_changes IS 'How replicas notice that keys were made or revoked.';
COMMENT ON COLUMN api_key_changes.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN api_key_changes.revision IS
    'Rises with every change of a key other than its last use.';

CREATE FUNCTION note_api_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_key_changes SET revision = revision + 1;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION note_api_key_change() IS
    'Raises the revision of the keys; also where they are changed by hand.';

CREATE TRIGGER api_keys_come_and_go AFTER INSERT OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_api_key_change();

-- All columns but the last use, which changes all the time and decides nothing.
CREATE TRIGGER api_keys_change
    AFTER UPDATE OF key_hash, name, tenant_id, namespaces, groups, role, expires_at, revoked_at,
        identity_id
    ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_api_key_change();

CREATE TABLE audit_log (
    audit_id bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C",
    group_id text COLLATE "C",
    session_id text COLLATE "C",
    identity text NOT NULL,
    operation_id text NOT NULL,
    before jsonb,
    after jsonb,
    claimed_trace_id text,
    CONSTRAINT audit_log_one_row_per_change PRIMARY KEY (audit_id),
    CONSTRAINT audit_log_action_is_known CHECK (action IN (
        'group_created', 'group_changed', 'group_deleted', 'group_deleted_by_force',
        'live_session_deleted', 'key_created', 'key_revoked', 'history_noted', 'request_refused'))
);

-- Rows arrive in order of time, so a block index is enough.
CREATE INDEX audit_log_by_time ON audit_log USING brin (recorded_at);

COMMENT ON TABLE audit_log IS
    'Who changed what, written in the transaction that changed it, and what known callers were '
    'refused. Rows outlive what they are about.';
COMMENT ON COLUMN audit_log.audit_id IS 'Rises with time.';
COMMENT ON COLUMN audit_log.recorded_at IS 'When it was changed.';
COMMENT ON COLUMN audit_log.action IS 'What was done: one of a closed list.';
COMMENT ON COLUMN audit_log.tenant_id IS
    'The tenant; of a key the one it is good in, * for all, as for what concerns all.';
COMMENT ON COLUMN audit_log.namespace_id IS 'The namespace; null for a key.';
COMMENT ON COLUMN audit_log.group_id IS 'The group; null for a key.';
COMMENT ON COLUMN audit_log.session_id IS 'The session, where one was deleted.';
COMMENT ON COLUMN audit_log.identity IS
    'Who did it: the way they were recognised and their name, or the account on the machine that '
    'ran a command.';
COMMENT ON COLUMN audit_log.operation_id IS
    'The request''s id, given by the service; in the answer and in the log where the caller named '
    'no trace.';
COMMENT ON COLUMN audit_log.before IS 'What was there before; null where there was nothing.';
COMMENT ON COLUMN audit_log.after IS 'What was there after; null where there was nothing.';
COMMENT ON COLUMN audit_log.claimed_trace_id IS
    'The trace that the request belongs to by its caller''s word (traceparent); null if it sent '
    'none.';

-- What is computed beside the data, and what the service and its operators look at.

CREATE FUNCTION failover_timeout(ticks bigint) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => (ticks / 10)::double precision / 1000000);

COMMENT ON FUNCTION failover_timeout(bigint) IS 'A failover timeout as an interval.';

CREATE FUNCTION lease_end(lease_until timestamptz, given_for interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    ends timestamptz := lease_until;
    outage record;
BEGIN
    IF lease_until IS NULL THEN
        RETURN NULL;
    END IF;
    FOR outage IN
        SELECT began_at, recovered_at, counts_from FROM service_outages ORDER BY outage_id
    LOOP
        IF ends > outage.began_at
            AND outage.recovered_at - outage.began_at > least(outage.counts_from, given_for / 4)
        THEN
            ends := greatest(ends, outage.recovered_at + given_for);
        END IF;
    END LOOP;
    RETURN ends;
END
$$;

COMMENT ON FUNCTION lease_end(timestamptz, interval) IS
    'When a lease really ends: an outage of the service extends one that was unexpired when it '
    'began by the time it was given for.';

-- Where groups are spread over several servers, a statement that writes rows of them may compute
-- nothing from them that a session's settings could change, as the sum of an instant and an
-- interval is for the server. So it is computed in a reading statement, and written by key.
CREATE FUNCTION base_leases_anew(keys uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    latest_id bigint;
    latest_at timestamptz;
    stale record;
BEGIN
    SELECT step_id, noticed_at INTO STRICT latest_id, latest_at
    FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1;
    FOR stale IN
        SELECT
            g.group_key,
            -- One from a session that is gone stands: for how long its lease was given is not known
            -- any more.
            CASE WHEN g.handover_from IS NULL THEN g.handover_until ELSE
                least(g.handover_until,
                    latest_at + greatest(failover_timeout(g.failover_timeout_ticks), l.of_handover))
            END AS handover_until,
            CASE WHEN g.in_doubt_until IS NOT NULL THEN
                least(g.in_doubt_until,
                    latest_at + greatest(failover_timeout(g.failover_timeout_ticks), l.longest))
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
        SELECT h.group_key, h.session_id, latest_at + (h.lease_until - h.received_at) AS lease_until
        FROM heartbeats h
        WHERE h.group_key = ANY (keys) AND h.received_at > latest_at
        ORDER BY h.group_key, h.session_id
    LOOP
        UPDATE heartbeats SET received_at = latest_at, lease_until = stale.lease_until
        WHERE group_key = stale.group_key AND session_id = stale.session_id;
    END LOOP;
END
$$;

COMMENT ON FUNCTION base_leases_anew(uuid[]) IS
    'Bases the leases and handovers of groups whose clock_set_back is behind on the clock as it '
    'was set back last.';

-- A sign of life needs what a heartbeat needs: it commits as durably as one, and waits for the
-- locks that one waits for. Where it does not come through, heartbeats do not, and the time counts
-- as an outage. The instant that is noted is that of writing: a commit that hangs leaves a silence
-- behind, which the next sign of life sees.
--
-- A lock that is not had within a moment is given up, so that whoever waits asks again and is not
-- itself waited for. Whatever the wait was for, the tables come before the row that all replicas
-- share. It is one statement, so that a replica that is paused in the middle holds no lock while it
-- sleeps.
--
-- It is given in no history that the database is not in: a new one is noted with it, in the same
-- transaction and under the lock on the row that all replicas share, so that they note one. What is
-- here is compared with what the database was in last, and with what the replica remembers. Where
-- somebody else noted a later history than the one that the replica remembers, that one is taken.
CREATE FUNCTION note_service_alive(
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
        -- gaps have passed.
        DELETE FROM service_outages
        WHERE recovered_at < present - interval '7 days'
            OR (recovered_at - began_at <= counts_from
                AND recovered_at < present - 4 * counts_from);
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

COMMENT ON FUNCTION note_service_alive(
    interval, interval, interval, timestamptz, interval, interval, text, bigint, uuid, bigint,
    bigint, bigint, boolean
) IS
    'A durable sign of life of a replica, unless there is a fresh one, in the history that the '
    'database is in. Records an outage if the last one is longer ago than the gap or the shortest '
    'outage; a step of the clock forward, by which it is at least and at most ahead of what passed '
    'since it was compared; and one back. Notes a new history where the server, the database or '
    'the timeline is another than in the latest, or where the replica remembers a history or a '
    'number of signs that is not here; what it remembers of events and terms is below the base. '
    'Without a server and a database it asks for them.';

-- What a decision needs to know of time. A transaction reads it once, in the statement that takes
-- its snapshot.
--
-- The timeline is null on a standby, which readers may look at. It costs less than a microsecond,
-- and is another one from the very moment of a promotion on; what pg_control_checkpoint() says is
-- behind.
CREATE VIEW service_moment AS
SELECT
    clock_timestamp() AS now,
    l.alive_at,
    ARRAY(SELECT began_at FROM service_outages ORDER BY outage_id) AS began,
    ARRAY(SELECT recovered_at FROM service_outages ORDER BY outage_id) AS recovered,
    ARRAY(
        SELECT (extract(epoch FROM counts_from) * 1000000)::bigint
        FROM service_outages ORDER BY outage_id
    ) AS gaps_us,
    ARRAY(
        SELECT coalesce((extract(epoch FROM clock_step) * 1000000)::bigint, 0)
        FROM service_outages ORDER BY outage_id
    ) AS steps_us,
    coalesce((SELECT step_id FROM service_clock_set_back ORDER BY step_id DESC LIMIT 1), 0)
        AS clock_set_back,
    l.signs,
    h.history,
    h.system_identifier,
    h.database_oid,
    h.timeline,
    CASE
        WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
    END AS present_timeline,
    f.history_id,
    f.noticed_at AS history_noticed_at,
    f.base
FROM service_liveness l
LEFT JOIN LATERAL (SELECT * FROM service_histories ORDER BY history_id DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (
    SELECT * FROM service_histories WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1
) f ON true;

COMMENT ON VIEW service_moment IS
    'The clock at the moment of reading, and what leases are judged by at it.';
COMMENT ON COLUMN service_moment.now IS 'This server''s clock.';
COMMENT ON COLUMN service_moment.alive_at IS 'The last sign of life of any replica.';
COMMENT ON COLUMN service_moment.began IS 'When the outages that are kept began, oldest first.';
COMMENT ON COLUMN service_moment.recovered IS 'When they ended.';
COMMENT ON COLUMN service_moment.gaps_us IS 'The outage gap of each, in microseconds.';
COMMENT ON COLUMN service_moment.steps_us IS
    'By how much the clock was set forward in each, in microseconds; 0 for those that are none of '
    'the clock''s.';
COMMENT ON COLUMN service_moment.clock_set_back IS
    'The last step_id of service_clock_set_back; 0 for none.';
COMMENT ON COLUMN service_moment.signs IS 'How many signs of life were written.';
COMMENT ON COLUMN service_moment.history IS
    'The identity of the latest history; null where none was noted.';
COMMENT ON COLUMN service_moment.system_identifier IS 'The server that it is on.';
COMMENT ON COLUMN service_moment.database_oid IS 'The database of that server.';
COMMENT ON COLUMN service_moment.timeline IS 'The timeline that it is on.';
COMMENT ON COLUMN service_moment.present_timeline IS
    'The timeline that the server is on now; null on a standby.';
COMMENT ON COLUMN service_moment.history_id IS
    'The number of the latest history that something was fenced off at, or the first.';
COMMENT ON COLUMN service_moment.history_noticed_at IS 'When that was noticed.';
COMMENT ON COLUMN service_moment.base IS 'What its terms are above.';

-- The views judge by the start of the statement, which is the moment of its snapshot. By
-- clock_timestamp() a view cannot become part of the query around it, so that all sessions would be
-- judged for a look at one group; and in a long look the rows judged last would be compared with a
-- clock that went on since the snapshot, so that healthy leases seemed over.
--
-- Outages only extend leases that were given before they ended, so the function that judges by them
-- is called for these alone.
CREATE VIEW session_status AS
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

COMMENT ON VIEW session_status IS
    'A row per session with what is true as the statement starts: role, health, time since the '
    'last heartbeat, time left of the lease.';
COMMENT ON COLUMN session_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN session_status.namespace_id IS 'The namespace.';
COMMENT ON COLUMN session_status.group_id IS 'The group.';
COMMENT ON COLUMN session_status.session_id IS 'The session.';
COMMENT ON COLUMN session_status.name IS 'Its name for people.';
COMMENT ON COLUMN session_status.role IS 'The role that is true now.';
COMMENT ON COLUMN session_status.live IS
    'Whether it has sent a heartbeat and its lease has not run out.';
COMMENT ON COLUMN session_status.health IS 'Per cent of healthy streams that it last reported.';
COMMENT ON COLUMN session_status.seconds_since_heartbeat IS
    'Time since its last heartbeat arrived.';
COMMENT ON COLUMN session_status.lease_seconds_left IS
    'Time left of its lease; 0 once it has run out.';
COMMENT ON COLUMN session_status.role_changed_at IS 'When its role last changed.';
COMMENT ON COLUMN session_status.registered_at IS 'When it registered.';
COMMENT ON COLUMN session_status.group_key IS 'The key of the group.';
COMMENT ON COLUMN session_status.registered_by IS
    'The identity that registered it; null if that was not noted.';

-- A group begins anew in a history when it is next decided on, and its row says so from then on.
-- Until then it is in doubt for as long as it will be by what is known here; whoever decides may
-- know of a longer lease.
CREATE VIEW group_doubts AS
SELECT
    g.group_key,
    CASE
        WHEN h.base > 0 AND g.history_id < h.history_id THEN greatest(
            g.in_doubt_until,
            h.noticed_at + failover_timeout(g.failover_timeout_ticks),
            h.noticed_at + (
                SELECT max(b.lease_until - b.received_at)
                FROM heartbeats b WHERE b.group_key = g.group_key))
        ELSE g.in_doubt_until
    END AS in_doubt_until
FROM groups g
LEFT JOIN (
    SELECT * FROM service_histories WHERE NOT is_trusted ORDER BY history_id DESC LIMIT 1
) h ON true;

COMMENT ON VIEW group_doubts IS
    'A row per group: until when somebody may act on a lease that was lost with a history of the '
    'database.';
COMMENT ON COLUMN group_doubts.group_key IS 'The key of the group.';
COMMENT ON COLUMN group_doubts.in_doubt_until IS
    'Until then only a session that says it acts is told that it is Primary; null where there was '
    'never a doubt.';

CREATE VIEW group_status AS
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
        -- Its lease is over, and no sweep has come by yet.
        WHEN count(*) FILTER (WHERE s.role = 1) > 0 THEN 'lapsed'
        ELSE g.vacancy
    END AS vacant_because,
    CASE WHEN g.handover_until > statement_timestamp() THEN g.handover_until END AS handover_until,
    CASE WHEN max(d.in_doubt_until) > statement_timestamp() THEN max(d.in_doubt_until) END
        AS in_doubt_until
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

COMMENT ON VIEW group_status IS
    'A row per group with what is true as the statement starts: who is Primary since when, who is '
    'to take over, term, watermark, sessions.';
COMMENT ON COLUMN group_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN group_status.namespace_id IS 'The namespace.';
COMMENT ON COLUMN group_status.group_id IS 'The group.';
COMMENT ON COLUMN group_status.name IS 'Its name for people.';
COMMENT ON COLUMN group_status.primary_session IS 'The session that is Primary now; null if none.';
COMMENT ON COLUMN group_status.primary_since IS 'Since when.';
COMMENT ON COLUMN group_status.pending_primary_session IS
    'The session that is to take over; null if none.';
COMMENT ON COLUMN group_status.term IS 'The term of the last grant of Primary.';
COMMENT ON COLUMN group_status.watermark IS
    'The time up to which a Primary said that it sent data.';
COMMENT ON COLUMN group_status.live_sessions IS 'Sessions whose lease has not run out.';
COMMENT ON COLUMN group_status.registered_sessions IS 'All sessions.';
COMMENT ON COLUMN group_status.failover_timeout IS 'How long a heartbeat keeps its session live.';
COMMENT ON COLUMN group_status.handover_from IS
    'The session whose open handover is being waited for; null if none.';
COMMENT ON COLUMN group_status.group_key IS 'The key of the group.';
COMMENT ON COLUMN group_status.primary_health IS
    'Per cent of healthy streams that the Primary last reported; null if there is none.';
COMMENT ON COLUMN group_status.vacant_because IS
    'Why nobody is Primary: never_held, lapsed, yielded, deleted (the Primary, or the group that '
    'was here before) or in_doubt (the database has a new history); null while somebody is.';
COMMENT ON COLUMN group_status.handover_until IS
    'Until when nobody can be Primary at the latest, because the last one may still act; null if '
    'nobody is waited for.';
COMMENT ON COLUMN group_status.in_doubt_until IS
    'Until then only a session that says it acts is told that it is Primary, for the database has '
    'a new history; null where nothing is in doubt.';

-- The rules are those of the service's own page and metrics. While a handover is under way nobody
-- is granted Primary, for the one before may still be acting. That is planned, and is over within
-- its lease; it needs a look only where nobody is there to take over.
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

COMMENT ON VIEW group_risks IS
    'A row per group and reason for which it needs a look, as the statement starts. A group that '
    'nobody registered in is not in use.';
COMMENT ON COLUMN group_risks.tenant_id IS 'The tenant.';
COMMENT ON COLUMN group_risks.namespace_id IS 'The namespace.';
COMMENT ON COLUMN group_risks.group_id IS 'The group.';
COMMENT ON COLUMN group_risks.risk IS
    'NoPrimary (and no handover is under way), NoStandby (nobody else is live), PrimaryUnhealthy '
    '(below 90 per cent), Flapping (four grants in ten minutes).';
COMMENT ON COLUMN group_risks.urgency IS '1 to 4, the most urgent first.';
COMMENT ON COLUMN group_risks.primary_session IS 'The session that is Primary now; null if none.';
COMMENT ON COLUMN group_risks.primary_health IS
    'Per cent of healthy streams that it last reported.';
COMMENT ON COLUMN group_risks.live_sessions IS 'Sessions whose lease has not run out.';
COMMENT ON COLUMN group_risks.registered_sessions IS 'All sessions.';
COMMENT ON COLUMN group_risks.grants_in_ten_minutes IS
    'How often Primary was granted in the last ten minutes.';
COMMENT ON COLUMN group_risks.group_key IS 'The key of the group.';
COMMENT ON COLUMN group_risks.in_doubt_until IS
    'Until then only a session that says it acts is told that it is Primary, for the database has '
    'a new history; null where nothing is in doubt.';

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

COMMENT ON VIEW role_history IS
    'Every change of a role that is kept, with the roles by name. A deleted group keeps its rows.';
COMMENT ON COLUMN role_history.recorded_at IS 'The instant the change was decided at.';
COMMENT ON COLUMN role_history.tenant_id IS 'The tenant.';
COMMENT ON COLUMN role_history.namespace_id IS 'The namespace.';
COMMENT ON COLUMN role_history.group_id IS 'The group.';
COMMENT ON COLUMN role_history.session_id IS 'The session whose role changed.';
COMMENT ON COLUMN role_history.from_role IS 'The role before.';
COMMENT ON COLUMN role_history.to_role IS 'The role after.';
COMMENT ON COLUMN role_history.reason IS 'Why: one of a closed list.';
COMMENT ON COLUMN role_history.actor IS
    'What made the change: a heartbeat, the sweep, or an operator (deletion).';
COMMENT ON COLUMN role_history.term IS 'The group''s term after the change.';
COMMENT ON COLUMN role_history.transition_id IS
    'Rises with time within a group: the id of the event.';
COMMENT ON COLUMN role_history.group_key IS 'The key of the group.';

-- For those who may look and must not see even a hash: they are given this and not the table.
CREATE VIEW api_key_status AS
SELECT
    key_id,
    name,
    tenant_id,
    namespaces,
    CASE WHEN groups IS NULL THEN role ELSE substr(role, 7) END AS role,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp()) AS valid,
    created_at,
    expires_at,
    last_used_at,
    revoked_at,
    groups
FROM api_keys;

COMMENT ON VIEW api_key_status IS
    'The keys of the service''s own, without what they are verified by.';
COMMENT ON COLUMN api_key_status.key_id IS 'The number by which a key is revoked.';
COMMENT ON COLUMN api_key_status.name IS 'A name for people.';
COMMENT ON COLUMN api_key_status.tenant_id IS 'The tenant it is good in; * for all.';
COMMENT ON COLUMN api_key_status.namespaces IS
    'The namespaces it is good in; null for all of the tenant''s.';
COMMENT ON COLUMN api_key_status.role IS
    'What may be done with it: metrics, viewer, client or admin.';
COMMENT ON COLUMN api_key_status.valid IS 'Whether it is good now: neither ended nor revoked.';
COMMENT ON COLUMN api_key_status.created_at IS 'When it was made.';
COMMENT ON COLUMN api_key_status.expires_at IS 'When it ends; null for never.';
COMMENT ON COLUMN api_key_status.last_used_at IS 'When it was last used, to a minute or two.';
COMMENT ON COLUMN api_key_status.revoked_at IS 'When it was revoked; null if it was not.';
COMMENT ON COLUMN api_key_status.groups IS
    'Patterns of the groups it is good for; null for all where it is good.';

-- What a view or a trigger calls has to find its tables whatever the caller's search_path is:
-- postgres_fdw sets it to pg_catalog alone, a restore to nothing, and somebody who looks may have a
-- schema of their own first. Views hold on to what they name; the text of a function is read anew
-- by each session. Its tables are those beside it.
DO $$
DECLARE
    place regnamespace;
    called regprocedure;
BEGIN
    SELECT relnamespace INTO STRICT place FROM pg_class WHERE oid = 'groups'::regclass;
    FOR called IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = place AND proname IN ('lease_end', 'note_api_key_change')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', called, place);
    END LOOP;
END
$$;

-- The table of the tool that runs these files.
COMMENT ON TABLE refinery_schema_history IS 'Which migrations of these tables have run.';
COMMENT ON COLUMN refinery_schema_history.version IS
    'The number of the migration; the highest is the version of the tables.';
COMMENT ON COLUMN refinery_schema_history.name IS 'Its name.';
COMMENT ON COLUMN refinery_schema_history.applied_on IS 'When it ran.';
COMMENT ON COLUMN refinery_schema_history.checksum IS 'By which a changed migration is noticed.';
