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
    CONSTRAINT api_keys_one_row_per_key PRIMARY KEY (key_id),
    CONSTRAINT api_keys_one_row_per_secret UNIQUE (key_hash),
    CONSTRAINT api_keys_hash_is_sha_256 CHECK (octet_length(key_hash) = 32),
    CONSTRAINT api_keys_name_is_not_empty CHECK (name <> ''),
    CONSTRAINT api_keys_tenant_is_not_empty CHECK (tenant_id <> ''),
    -- Null is all of them; an empty list could be taken for that.
    CONSTRAINT api_keys_namespaces_are_not_empty CHECK (cardinality(namespaces) > 0 AND array_position(namespaces, NULL) IS NULL),
    CONSTRAINT api_keys_role_is_known CHECK (role IN ('viewer', 'client', 'admin'))
);

COMMENT ON TABLE api_keys IS 'Keys of the service''s own. A revoked or expired one stays, as a record.';
COMMENT ON COLUMN api_keys.key_id IS 'The number by which a key is revoked.';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key''s text, which is nowhere kept: it is 256 random bits, so a plain hash tells nothing.';
COMMENT ON COLUMN api_keys.name IS 'A name for people; several keys may share one, as while one replaces another.';
COMMENT ON COLUMN api_keys.tenant_id IS 'The tenant it is good in; * for all.';
COMMENT ON COLUMN api_keys.namespaces IS 'The namespaces it is good in; null for all of the tenant''s.';
COMMENT ON COLUMN api_keys.role IS 'What may be done with it: viewer, client or admin.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends; null for never.';
COMMENT ON COLUMN api_keys.last_used_at IS 'When it was last used, to a minute or two.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; null if it was not.';

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
COMMENT ON COLUMN api_key_changes.revision IS 'Rises with every change of a key other than its last use.';

CREATE FUNCTION note_api_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_key_changes SET revision = revision + 1;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION note_api_key_change() IS 'Raises the revision of the keys; also where they are changed by hand.';

CREATE TRIGGER api_keys_come_and_go AFTER INSERT OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_api_key_change();
CREATE TRIGGER api_keys_change AFTER UPDATE OF key_hash, name, tenant_id, namespaces, role, expires_at, revoked_at ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_api_key_change();

ALTER TABLE sessions ADD COLUMN registered_by text;

COMMENT ON COLUMN sessions.registered_by IS 'The identity that registered it; null if it registered before that was noted.';

-- Serves the limit of groups per tenant.
CREATE INDEX groups_by_tenant ON groups (tenant_id);

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
    CONSTRAINT audit_log_one_row_per_change PRIMARY KEY (audit_id),
    CONSTRAINT audit_log_action_is_known CHECK (action IN (
        'group_created', 'group_changed', 'group_deleted', 'group_deleted_by_force', 'live_session_deleted',
        'key_created', 'key_revoked'))
);

-- Rows arrive in order of time, so a block index is enough.
CREATE INDEX audit_log_by_time ON audit_log USING brin (recorded_at);

COMMENT ON TABLE audit_log IS 'Who changed what, written in the transaction that changed it. Rows outlive what they are about.';
COMMENT ON COLUMN audit_log.audit_id IS 'Rises with time.';
COMMENT ON COLUMN audit_log.recorded_at IS 'When it was changed.';
COMMENT ON COLUMN audit_log.action IS 'What was done: one of a closed list.';
COMMENT ON COLUMN audit_log.tenant_id IS 'The tenant; of a key the one it is good in, * for all.';
COMMENT ON COLUMN audit_log.namespace_id IS 'The namespace; null for a key.';
COMMENT ON COLUMN audit_log.group_id IS 'The group; null for a key.';
COMMENT ON COLUMN audit_log.session_id IS 'The session, where one was deleted.';
COMMENT ON COLUMN audit_log.identity IS 'Who did it: the way they were recognised and their name, or the account on the machine that ran a command.';
COMMENT ON COLUMN audit_log.operation_id IS 'The request''s id, as in its answer and in the log.';
COMMENT ON COLUMN audit_log.before IS 'What was there before; null where there was nothing.';
COMMENT ON COLUMN audit_log.after IS 'What was there after; null where there was nothing.';
