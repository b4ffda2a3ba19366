-- Observe mode: what a policy would have refused, by table and statement. Harmless when run again.
--
-- A row is written in the observed transaction itself and looks first whether it is there, without a unique
-- index: two transactions never wait for each other here, and the few doubles do no harm. What can't be
-- written (a read-only transaction, a standby) goes to the server's log only; what is rolled back is gone.

CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE IF NOT EXISTS tenantry.observation (
    relation   text NOT NULL,
    kind       text NOT NULL,             -- read or write
    problem    text NOT NULL,             -- no tenant bound, or a row of another tenant
    statement  text NOT NULL,             -- with its literals taken out
    role       text NOT NULL,
    client     text NOT NULL,             -- application_name
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tenantry.observation IS 'What row-level security would have refused, while it is observed';
CREATE INDEX IF NOT EXISTS observation_relation ON tenantry.observation (relation, md5(statement));

CREATE OR REPLACE FUNCTION tenantry.observe(relation text, kind text, setting text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
#variable_conflict use_variable
DECLARE
    problem CONSTANT text := CASE WHEN coalesce(setting, '') = '' THEN 'no tenant bound'
                                  ELSE 'a row of another tenant' END;
    statement CONSTANT text := left(
        regexp_replace(
            regexp_replace(current_query(), '''([^'']|'''')*''', '?', 'g'),
            '\m[0-9][0-9.]*\M', '?', 'g'),
        2000);
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        RAISE LOG 'tenantry would refuse: %, % of %, statement: %', problem, kind, relation, statement;
        RETURN true;
    END IF;
    IF NOT EXISTS (
        SELECT FROM tenantry.observation AS o
        WHERE o.relation = relation AND md5(o.statement) = md5(statement)
            AND o.kind = kind AND o.problem = problem
    ) AND (SELECT count(*) FROM (
        SELECT FROM tenantry.observation AS o WHERE o.relation = relation LIMIT 1000
    ) AS known) < 1000 THEN
        INSERT INTO tenantry.observation (relation, kind, problem, statement, role, client)
            VALUES (relation, kind, problem, statement, session_user,
                    current_setting('application_name'));
    END IF;
    RETURN true;
END
$fn$;

-- The policies of the observed tables call it as whoever asks.
GRANT USAGE ON SCHEMA tenantry TO PUBLIC;
GRANT EXECUTE ON FUNCTION tenantry.observe(text, text, text) TO PUBLIC;
