-- Which request made a change was told by its trace id wherever the caller sent one, and so by the caller. The id is the service's
-- own from now on, and the caller's word stands beside it. A replica of the version before leaves it out.

ALTER TABLE audit_log ADD COLUMN claimed_trace_id text;

COMMENT ON COLUMN audit_log.operation_id IS 'The request''s id, given by the service; in the answer and in the log where the caller named no trace.';
COMMENT ON COLUMN audit_log.claimed_trace_id IS 'The trace that the request belongs to by its caller''s word (traceparent); null if it sent none.';
