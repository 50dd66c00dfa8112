-- What clients of the released form keep with a group or a session. No service decides by it.
-- `json` and not `jsonb`: it is given back as it was sent. Null in each row that is there, so no
-- row is written here, and no release before this one misses it.
ALTER TABLE groups ADD COLUMN additional_data json;
ALTER TABLE sessions ADD COLUMN additional_data json;

COMMENT ON COLUMN groups.additional_data IS
    'A JSON object that its clients keep here, as they sent it; null if they keep none.';
COMMENT ON COLUMN sessions.additional_data IS
    'A JSON object that its client keeps here, as it sent it; null if it keeps none.';
