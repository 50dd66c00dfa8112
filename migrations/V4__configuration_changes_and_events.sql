-- What the streams of events and the history read: changes of configuration beside the changes of roles. A replica that does
-- not know this version goes on working: it writes no changes of configuration, and its changes of roles are streamed.

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
        'group_created', 'group_changed', 'group_deleted', 'session_registered', 'session_deleted')),
    CONSTRAINT configuration_changes_name_a_session_where_one_changed CHECK (
        (session_id IS NOT NULL) = (kind IN ('session_registered', 'session_deleted'))),
    CONSTRAINT configuration_changes_of_a_group_have_its_timeout CHECK (
        (failover_timeout_ticks IS NOT NULL) = (kind IN ('group_created', 'group_changed')))
);

-- For what came after an id, over all groups: what every replica asks several times a second. Not unique: the sequence is.
-- Made with the table locked against writers, for a second or so per million changes of roles that are kept.
CREATE INDEX configuration_changes_by_id ON configuration_changes (change_id);
CREATE INDEX role_transitions_by_id ON role_transitions (transition_id);

COMMENT ON TABLE configuration_changes IS 'Every change of a group''s configuration and of its set of sessions, written in the transaction that made it. Rows outlive their group.';
COMMENT ON COLUMN configuration_changes.group_key IS 'The group.';
COMMENT ON COLUMN configuration_changes.change_id IS 'Rises with time within a group, and shares its numbers with role_transitions.transition_id: the id of the event.';
COMMENT ON COLUMN configuration_changes.tenant_id IS 'The tenant in the path.';
COMMENT ON COLUMN configuration_changes.namespace_id IS 'The namespace in the path.';
COMMENT ON COLUMN configuration_changes.group_id IS 'The group id in the path.';
COMMENT ON COLUMN configuration_changes.session_id IS 'The session that was registered or deleted; null where the group itself changed.';
COMMENT ON COLUMN configuration_changes.kind IS 'What happened: one of a closed list. A deleted group takes its sessions along without a row for each.';
COMMENT ON COLUMN configuration_changes.name IS 'The name that the group or the registered session has now.';
COMMENT ON COLUMN configuration_changes.description IS 'The description that the group has now.';
COMMENT ON COLUMN configuration_changes.failover_timeout_ticks IS 'The timeout that the group has now, in ticks of 100 ns; null where a session changed or the group is gone.';
COMMENT ON COLUMN configuration_changes.recorded_at IS 'When the change was made.';
