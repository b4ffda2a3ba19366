-- Tables that isolate already, each in its own style, all of them right. The plan leaves their policies alone.

CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE membership (login text, tenant_id text, PRIMARY KEY (login, tenant_id));
GRANT SELECT ON membership TO PUBLIC;

CREATE FUNCTION app.tenant() RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('app.current_tenant', true), '') $$;
CREATE FUNCTION app.tenant_plpgsql() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN app.tenant();
END $$;
CREATE FUNCTION app.may_see(row_tenant text) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT row_tenant = app.tenant() $$;

-- Through a helper function, bare and wrapped.
CREATE TABLE helped (tenant_id varchar(20) NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY mine ON helped USING (tenant_id = app.tenant());
CREATE TABLE wrapped (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY mine ON wrapped USING (tenant_id = (SELECT app.tenant_plpgsql()));
CREATE TABLE asked (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY mine ON asked USING (app.may_see(tenant_id));

-- A permissive policy that allows everything, and a restrictive one that holds it.
CREATE TABLE companion (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY everybody ON companion USING (true);
CREATE POLICY tenant ON companion AS RESTRICTIVE
    USING (tenant_id = nullif(current_setting('app.current_tenant', true), ''));

-- One policy for each command.
CREATE TABLE commands (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY s ON commands FOR SELECT USING (tenant_id = nullif(current_setting('app.current_tenant', true), ''));
CREATE POLICY i ON commands FOR INSERT
    WITH CHECK (tenant_id = nullif(current_setting('app.current_tenant', true), ''));
CREATE POLICY u ON commands FOR UPDATE USING (tenant_id = nullif(current_setting('app.current_tenant', true), ''));
CREATE POLICY d ON commands FOR DELETE USING (tenant_id = nullif(current_setting('app.current_tenant', true), ''));

-- Read only: writing is denied because nothing allows it. And a policy that denies everything.
CREATE TABLE readable (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY s ON readable FOR SELECT USING (tenant_id = app.tenant());
CREATE POLICY never ON readable FOR DELETE USING (false);

-- By membership, through another table.
CREATE TABLE member_only (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE POLICY members ON member_only USING (
    tenant_id = app.tenant()
    AND tenant_id IN (SELECT m.tenant_id FROM membership AS m WHERE m.login = current_user));

-- Without any policy yet.
CREATE TABLE open_table (tenant_id text, id int PRIMARY KEY);

DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['helped', 'wrapped', 'asked', 'companion', 'commands', 'readable',
                                'member_only'] LOOP
        EXECUTE format('INSERT INTO %I VALUES (''acme'', 1), (''it''''s'', 2)', name);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    END LOOP;
END
$do$;
INSERT INTO open_table VALUES ('acme', 1), ('it''s', 2);
ALTER TABLE wrapped FORCE ROW LEVEL SECURITY;
