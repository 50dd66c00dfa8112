-- A key is its number, not its name: two keys of one name are two callers.

ALTER TABLE api_keys ADD COLUMN identity_id bigint;

COMMENT ON COLUMN api_keys.identity_id IS 'The number of the key whose place it takes, as whose caller it counts; null for its own.';

-- Where it is clear which key registered a session, that is noted by its number. Otherwise the session is nobody's, as those are
-- that registered before it was noted.
UPDATE sessions s
SET registered_by = (
    SELECT CASE WHEN count(*) = 1 THEN min('key:' || k.key_id || ':' || k.name) END
    FROM api_keys k
    WHERE 'key:' || k.name = s.registered_by AND k.revoked_at IS NULL AND k.tenant_id IN ('*', g.tenant_id)
)
FROM groups g
WHERE g.group_key = s.group_key AND s.registered_by LIKE 'key:%';
