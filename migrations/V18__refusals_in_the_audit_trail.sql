-- What somebody was refused who is known is in the audit trail, too.
ALTER TABLE audit_log DROP CONSTRAINT audit_log_action_is_known;
-- Whatever is there already was of the list before, which is part of this one: no row needs to be looked at.
ALTER TABLE audit_log ADD CONSTRAINT audit_log_action_is_known CHECK (action IN (
    'group_created', 'group_changed', 'group_deleted', 'group_deleted_by_force', 'live_session_deleted',
    'key_created', 'key_revoked', 'history_noted', 'request_refused')) NOT VALID;

COMMENT ON TABLE audit_log IS 'Who changed what, written in the transaction that changed it, and what known callers were refused. Rows outlive what they are about.';
