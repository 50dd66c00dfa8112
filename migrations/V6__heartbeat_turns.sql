-- What replicas take turns by. A replica that does not know this version takes none, and meets the others as before.

-- Without columns or rows: only its lock is used. A table's lock can be waited for before the snapshot is taken; an
-- advisory lock is taken by a SELECT, whose snapshot would be older than what the one before has written.
CREATE TABLE heartbeat_turns ();

COMMENT ON TABLE heartbeat_turns IS 'Empty. Replicas whose heartbeat transactions keep meeting each other lock it one after the other, in a mode that hinders nobody else.';
