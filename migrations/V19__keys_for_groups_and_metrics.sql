-- Keys for some groups of a namespace, and for the metrics alone.

ALTER TABLE api_keys ADD COLUMN groups text[];

COMMENT ON COLUMN api_keys.groups IS 'Patterns of the groups it is good for, * for any characters; null for all where it is good.';

-- A replica of the version before does not know that a key may be for some groups only, and would let it into the whole namespace. So
-- the role of such a key has a name of its own, which that replica takes for none: it refuses the key.
ALTER TABLE api_keys
    DROP CONSTRAINT api_keys_role_is_known,
    ADD CONSTRAINT api_keys_role_is_known CHECK (role IN (
        'metrics', 'viewer', 'client', 'admin', 'group-viewer', 'group-client', 'group-admin')),
    ADD CONSTRAINT api_keys_groups_are_not_empty CHECK (cardinality(groups) > 0 AND array_position(groups, NULL) IS NULL),
    ADD CONSTRAINT api_keys_role_tells_of_groups CHECK ((groups IS NOT NULL) = starts_with(role, 'group-'));

COMMENT ON COLUMN api_keys.role IS 'What may be done with it: metrics, viewer, client or admin; with group- before it where it is good for some groups only.';

CREATE OR REPLACE TRIGGER api_keys_change
    AFTER UPDATE OF key_hash, name, tenant_id, namespaces, groups, role, expires_at, revoked_at, identity_id ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_api_key_change();

CREATE OR REPLACE VIEW api_key_status AS
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

COMMENT ON COLUMN api_key_status.role IS 'What may be done with it: metrics, viewer, client or admin.';
COMMENT ON COLUMN api_key_status.groups IS 'Patterns of the groups it is good for; null for all where it is good.';
