-- What a view calls has to find its tables whatever the caller's search_path is: postgres_fdw sets it to pg_catalog alone, a restore
-- to nothing, and somebody who looks may have a schema of their own first. Views hold on to what they name; the text of a function
-- is read anew by each session. Its tables are those beside it.
DO $$
DECLARE
    place regnamespace;
    called regprocedure;
BEGIN
    SELECT relnamespace INTO STRICT place FROM pg_class WHERE oid = 'groups'::regclass;
    FOR called IN SELECT oid FROM pg_proc WHERE pronamespace = place AND proname IN ('lease_end', 'note_api_key_change') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', called, place);
    END LOOP;
END
$$;
