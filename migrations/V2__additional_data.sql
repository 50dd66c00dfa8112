-- What clients keep with a group or a session, as they sent it.

ALTER TABLE groups ADD COLUMN additional_data jsonb;
COMMENT ON COLUMN groups.additional_data IS 'A JSON object kept for clients; null where none was sent.';

ALTER TABLE sessions ADD COLUMN additional_data jsonb;
COMMENT ON COLUMN sessions.additional_data IS 'A JSON object kept for clients; null where none was sent.';
