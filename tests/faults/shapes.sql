-- Tables of every shape that a move carries, in a schema of their own with a name that wants quoting.
CREATE SCHEMA "My Shop";
CREATE TYPE "My Shop"."Mood" AS ENUM ('sad', 'ok', 'HAPPY');
CREATE DOMAIN "My Shop".cents AS bigint CHECK (VALUE >= 0);
CREATE TYPE "My Shop".pair AS (a int, b text);

-- Every built-in type that a table may have.
CREATE TABLE "My Shop".types (
    tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id),
    c_bool bool, c_int2 int2, c_int4 int4, c_int8 int8, c_float4 float4, c_float8 float8, c_numeric numeric,
    c_money money, c_text text, c_varchar varchar(20), c_char char(8), c_name name, c_bytea bytea, c_date date,
    c_time time, c_timetz timetz, c_timestamp timestamp, c_timestamptz timestamptz, c_interval interval, c_json json,
    c_jsonb jsonb, c_jsonpath jsonpath, c_xml text, c_inet inet, c_cidr cidr, c_macaddr macaddr, c_macaddr8 macaddr8,
    c_bit bit(5), c_varbit varbit, c_point point, c_line line, c_lseg lseg, c_box box, c_path path,
    c_polygon polygon, c_circle circle, c_tsvector tsvector, c_tsquery tsquery, c_int4range int4range,
    c_nummultirange nummultirange, c_tstzrange tstzrange, c_pg_lsn pg_lsn, c_xid8 xid8, c_oid oid,
    c_regclass regclass, c_mood "My Shop"."Mood", c_cents "My Shop".cents, c_pair "My Shop".pair,
    c_moods "My Shop"."Mood"[], c_texts text[][], c_null text
);
-- Mixed case, a tenant column of another spelling, an identity in the key.
CREATE TABLE "My Shop"."Order Line" (
    "TenantId" uuid NOT NULL, "Line No" bigint GENERATED ALWAYS AS IDENTITY, "Quantity" int NOT NULL,
    "Doubled" int GENERATED ALWAYS AS ("Quantity" * 2) STORED, PRIMARY KEY ("TenantId", "Line No")
);
-- A cycle of foreign keys, and one to itself.
CREATE TABLE "My Shop".team (
    tenant_id uuid NOT NULL, id int NOT NULL, leader int, parent int, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, parent) REFERENCES "My Shop".team (tenant_id, id)
);
CREATE TABLE "My Shop".person (
    tenant_id uuid NOT NULL, id int NOT NULL, team int NOT NULL, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, team) REFERENCES "My Shop".team (tenant_id, id)
);
ALTER TABLE "My Shop".team ADD FOREIGN KEY (tenant_id, leader) REFERENCES "My Shop".person (tenant_id, id);
-- Partitions by range, one of them partitioned again by hash.
CREATE TABLE "My Shop".log (
    tenant_id uuid NOT NULL, id bigint NOT NULL, at date NOT NULL, what text, PRIMARY KEY (tenant_id, id, at)
) PARTITION BY RANGE (at);
CREATE TABLE "My Shop".log_2025 PARTITION OF "My Shop".log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE "My Shop".log_2026 PARTITION OF "My Shop".log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    PARTITION BY HASH (id);
CREATE TABLE "My Shop".log_2026_0 PARTITION OF "My Shop".log_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "My Shop".log_2026_1 PARTITION OF "My Shop".log_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
-- A global bigint key: the identity is a unique index that has the tenant.
CREATE TABLE "My Shop".ticket (tenant_id uuid NOT NULL, id bigserial PRIMARY KEY, title text, UNIQUE (tenant_id, id));
-- A global uuid key likewise.
CREATE TABLE "My Shop".token (tenant_id uuid NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int);
CREATE UNIQUE INDEX token_of ON "My Shop".token (tenant_id, id);
-- Wide values, out of line, and triggers that must not fire on what is carried.
CREATE TABLE "My Shop".wide (tenant_id uuid NOT NULL, id int NOT NULL, body text, touched int DEFAULT 0,
    PRIMARY KEY (tenant_id, id));
ALTER TABLE "My Shop".wide ALTER body SET STORAGE EXTERNAL;
CREATE FUNCTION "My Shop".touch() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON "My Shop".wide FOR EACH ROW EXECUTE FUNCTION "My Shop".touch();

CREATE FUNCTION public.fill_shapes(tenant uuid) RETURNS void LANGUAGE sql SET search_path = "My Shop", public AS $$
    INSERT INTO types SELECT tenant, md5(tenant || i::text)::uuid,
        i % 2 = 0, -32768 + i, -2147483648 + i, -9223372036854775808 + i, '-Infinity', 'NaN', '-1234567890.098765000',
        '12.30', E'tab\t, line\n, "quote", \\ and ü', 'v' || i, 'c' || i, 'n' || i, '\x00ff10', '4713-01-01 BC',
        '23:59:59.999999', '23:59:59-08', 'infinity', '2026-03-29 01:30:00+00', '-1 mons +2 days -00:00:00.5',
        '{"b": 1, "a" : [null]}', '{"b": 1, "a": [null, 1.50]}', '$.a[*] ? (@ > 1)', '<x/>', '::1/64', '10.0.0.0/8',
        '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'1', '(1.5,-2)', '{1,-1,0}', '[(0,0),(1,1)]',
        '(2,2),(0,0)', '((0,0),(1,1),(2,0))', '((0,0),(1,1),(2,0))', '<(0,0),1.25>', 'a:1A fat:2B', 'fat & !rat',
        '[1,10)', '{[1.1,2.2),[3,4)}', '["2026-01-01 00:00+00",)', '16/B374D848', '18446744073709551615', 4294967295,
        'pg_class', 'HAPPY', 12, ROW(i::int, 'x,y'::text)::pair, ARRAY['ok', NULL]::"Mood"[], ARRAY[['a', 'NULL'], ['', NULL]], NULL
        FROM generate_series(1, 5) AS i;
    INSERT INTO "Order Line" ("TenantId", "Quantity") SELECT tenant, i FROM generate_series(1, 30) AS i;
    INSERT INTO team (tenant_id, id, parent) VALUES (tenant, 1, NULL), (tenant, 2, 1), (tenant, 3, 3), (tenant, 4, 1);
    INSERT INTO person SELECT tenant, i, 1 + i % 3 FROM generate_series(1, 9) AS i;
    UPDATE team SET leader = id WHERE tenant_id = tenant;
    INSERT INTO log SELECT tenant, i, '2025-06-01'::date + 30 * i, 'w' || i FROM generate_series(1, 15) AS i;
    INSERT INTO ticket (tenant_id, title) SELECT tenant, 't' || i FROM generate_series(1, 20) AS i;
    INSERT INTO token (tenant_id, n) SELECT tenant, i FROM generate_series(1, 20) AS i;
    INSERT INTO wide (tenant_id, id, body) SELECT tenant, i, repeat('0123456789', 2000 * i) FROM generate_series(0, 4) AS i;
$$;
-- What its new home does with it: updates that leave wide values alone, keys that change, rows that go and come.
CREATE FUNCTION public.change_shapes(tenant uuid) RETURNS void LANGUAGE sql SET search_path = "My Shop", public AS $$
    UPDATE types SET c_mood = 'sad', c_pair = ROW(0, NULL)::pair, c_texts = '{}' WHERE tenant_id = tenant;
    INSERT INTO "Order Line" ("TenantId", "Quantity") VALUES (tenant, 99);
    DELETE FROM "Order Line" WHERE "TenantId" = tenant AND "Quantity" = 1;
    UPDATE team SET leader = NULL, id = 10 WHERE tenant_id = tenant AND id = 4;
    UPDATE person SET id = id + 100 WHERE tenant_id = tenant AND id > 4;
    UPDATE log SET at = at + 200 WHERE tenant_id = tenant AND at < '2026-01-01';
    INSERT INTO ticket (tenant_id, title) VALUES (tenant, 'new');
    UPDATE token SET n = -n WHERE tenant_id = tenant;
    UPDATE wide SET id = id + 50 WHERE tenant_id = tenant;
$$;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT c.oid::regclass FROM pg_class AS c WHERE relnamespace = '"My Shop"'::regnamespace
                AND relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY; ALTER TABLE %s FORCE ROW LEVEL SECURITY', name, name);
        EXECUTE format('CREATE POLICY tenantry_tenant ON %s USING (%s = nullif(current_setting('
            '''app.current_tenant'', true), '''')::uuid)', name,
            CASE WHEN name ~ 'Order' THEN '"TenantId"' ELSE 'tenant_id' END);
        EXECUTE format('CREATE POLICY tenantry_guard ON %s AS RESTRICTIVE USING ((SELECT tenantry.admitted()))', name);
    END LOOP;
END
$$;
