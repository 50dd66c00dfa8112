-- A heartbeat that changes no role is decided without those sessions that are neither its own nor
-- Primary. Whether that can be is in the group's row from now on. A replica of an earlier version
-- leaves it as it was: after a grant it then says nothing. Whoever is made PendingPrimary by such a
-- replica may have to wait for Primary until its own heartbeat comes through a later one.

ALTER TABLE groups ADD COLUMN settled_term bigint;

COMMENT ON COLUMN groups.settled_term IS
    'The term in which a Primary has settled: nobody is PendingPrimary, and watermark_base_at stands for what all sessions sent but the Primary. Null, or another term than the group''s, says nothing.';
