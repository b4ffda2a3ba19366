-- A shop platform: a hundred tables and more, uuid tenants, partitions of two levels, inheritance, views on views,
-- enums, foreign-key cycles, composite and quoted keys.

CREATE TYPE order_state AS ENUM ('new', 'paid', 'sent');
CREATE DOMAIN tenant_ref AS uuid;
CREATE SCHEMA audit;

CREATE TABLE tenants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
INSERT INTO tenants VALUES ('11111111-1111-4111-8111-111111111111', 'one'),
                           ('22222222-2222-4222-8222-222222222222', 'two');
CREATE TABLE countries (code char(2) PRIMARY KEY, name text);
INSERT INTO countries VALUES ('AT', 'Austria'), ('DE', 'Germany');
CREATE TABLE audit.schema_history (version int PRIMARY KEY, script text);

-- Cycle: a department has a head, a head has a department.
CREATE TABLE departments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid REFERENCES tenants, name text NOT NULL, head_id bigint
);
CREATE TABLE people (
    id bigserial PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
    department_id bigint REFERENCES departments ON DELETE SET NULL,
    email text NOT NULL, country char(2) REFERENCES countries,
    UNIQUE (tenant_id, email)
);
ALTER TABLE departments ADD FOREIGN KEY (head_id) REFERENCES people DEFERRABLE INITIALLY DEFERRED;

-- Quoted, composite, self-referring.
CREATE TABLE "Order" (
    "TenantID" tenant_ref NOT NULL, "No" int NOT NULL, state order_state NOT NULL DEFAULT 'new',
    "Replaces" int, buyer bigint REFERENCES people (id) ON DELETE CASCADE,
    total numeric(12, 2) GENERATED ALWAYS AS (1.5) STORED,
    PRIMARY KEY ("No", "TenantID"),
    FOREIGN KEY ("TenantID", "Replaces") REFERENCES "Order" ("TenantID", "No")
);
ALTER TABLE "Order" DROP CONSTRAINT "Order_TenantID_Replaces_fkey";
ALTER TABLE "Order" ADD CONSTRAINT "replaces, maybe"
    FOREIGN KEY ("TenantID", "Replaces") REFERENCES "Order" ("TenantID", "No");
CREATE TABLE "Order Line" (
    tenant_id uuid, "order" int, pos int, sku text, PRIMARY KEY (tenant_id, "order", pos),
    FOREIGN KEY (tenant_id, "order") REFERENCES "Order" ("TenantID", "No") ON DELETE CASCADE
);

-- A partial index led by the tenant does not serve; an index that trails it doesn't either.
CREATE TABLE carts (id uuid PRIMARY KEY, tenant_id uuid, open boolean NOT NULL, note text);
CREATE INDEX ON carts (tenant_id) WHERE open;
CREATE INDEX ON carts (open, tenant_id);

-- Two levels of partitions, a key that must hold the partition key.
CREATE TABLE events (
    id bigint NOT NULL, tenant_id uuid, at timestamptz NOT NULL, region text NOT NULL, body jsonb,
    PRIMARY KEY (id, at, region)
) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
    PARTITION BY LIST (region);
CREATE TABLE events_2025_eu PARTITION OF events_2025 FOR VALUES IN ('eu');
CREATE TABLE events_2025_us PARTITION OF events_2025 FOR VALUES IN ('us');
CREATE TABLE audit.events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE clicks (tenant_id uuid, at date) PARTITION BY HASH (tenant_id);
CREATE TABLE clicks_0 PARTITION OF clicks FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE clicks_1 PARTITION OF clicks FOR VALUES WITH (MODULUS 2, REMAINDER 1);

-- Inheritance.
CREATE TABLE documents (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid, title text);
CREATE TABLE invoices (amount numeric) INHERITS (documents);
ALTER TABLE invoices ADD PRIMARY KEY (id);

CREATE UNLOGGED TABLE sessions_cache (tenant_id uuid, key text, PRIMARY KEY (key, tenant_id));

CREATE VIEW paid_orders AS SELECT * FROM "Order" WHERE state = 'paid';
CREATE VIEW paid_numbers AS SELECT "TenantID", "No" FROM paid_orders;
CREATE VIEW country_list AS SELECT code FROM countries;
CREATE MATERIALIZED VIEW order_totals AS SELECT "TenantID", count(*) AS n FROM "Order" GROUP BY 1;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();

INSERT INTO people (tenant_id, email) SELECT id, 'a@example.com' FROM tenants;
INSERT INTO departments (tenant_id, name, head_id) SELECT tenant_id, 'all', id FROM people;
UPDATE people AS p SET department_id = d.id FROM departments AS d WHERE d.tenant_id = p.tenant_id;
INSERT INTO "Order" ("TenantID", "No", state) SELECT id, n, 'paid' FROM tenants, generate_series(1, 3) AS n;
INSERT INTO "Order Line" SELECT id, 1, n FROM tenants, generate_series(1, 3) AS n;
INSERT INTO carts SELECT gen_random_uuid(), id, true FROM tenants;
INSERT INTO events SELECT row_number() OVER (), id, at, region FROM tenants,
    (VALUES ('2025-06-01'::date, 'eu'), ('2025-06-01', 'us'), ('2026-06-01', 'eu')) AS v (at, region);
INSERT INTO clicks SELECT id, '2026-01-01' FROM tenants;
INSERT INTO documents (tenant_id, title) SELECT id, 'd' FROM tenants;
INSERT INTO invoices (tenant_id, title, amount) SELECT id, 'i', 1 FROM tenants;
INSERT INTO sessions_cache SELECT id, 'k' FROM tenants;
REFRESH MATERIALIZED VIEW order_totals;

-- The rest of the product: a hundred tables that are much alike, each referring to the one before.
DO $do$
DECLARE
    n int;
BEGIN
    FOR n IN 1..100 LOOP
        EXECUTE format(
            'CREATE TABLE module_%1$s (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid, '
            'name text, %2$s tags text[])', n,
            CASE WHEN n % 3 = 0 THEN format('previous bigint REFERENCES module_%s ON DELETE SET NULL,', n - 1)
                 ELSE '' END);
        EXECUTE format('INSERT INTO module_%1$s (tenant_id, name) SELECT id, name FROM tenants', n);
    END LOOP;
END
$do$;
