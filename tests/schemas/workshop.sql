-- One of everything that an audit looks at, for breaking it piece by piece.

CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('app.current_tenant', true), '')::uuid $$;

CREATE TABLE countries (code text PRIMARY KEY);
CREATE TABLE membership (login text, tenant_id uuid, PRIMARY KEY (login, tenant_id));
CREATE TABLE customers (id bigserial PRIMARY KEY, tenant_id uuid, name text, UNIQUE (tenant_id, name));
CREATE TABLE orders (
    id bigint PRIMARY KEY, tenant_id uuid, customer_id bigint REFERENCES customers ON DELETE CASCADE,
    country text REFERENCES countries
);
CREATE TABLE log (tenant_id uuid, line text);
CREATE TABLE events (id bigint, tenant_id uuid, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW order_list AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW totals AS SELECT tenant_id, count(*) AS n FROM orders GROUP BY 1;

CREATE TABLE notes (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON notes USING (tenant_id = app.tenant());
CREATE TABLE shared_notes (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shared_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON shared_notes USING (true);
CREATE POLICY held ON shared_notes AS RESTRICTIVE USING (
    tenant_id = app.tenant() AND tenant_id IN (SELECT m.tenant_id FROM membership AS m));
