-- A grown product: bigint tenants in integer, smallint-free, bigint, text and varchar columns, spelled in
-- several ways in several schemas; tables without a key; names at PostgreSQL's limit.

CREATE SCHEMA crm;
CREATE SCHEMA "Billing 2.0";

CREATE TABLE crm."Region" (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE crm.customer ("tenantId" integer, id int NOT NULL, name text, PRIMARY KEY (id));
CREATE TABLE crm.address (
    tenantid bigint NOT NULL, customer int NOT NULL REFERENCES crm.customer (id) ON UPDATE CASCADE,
    n int NOT NULL, street text, PRIMARY KEY (tenantid, customer, n)
);
CREATE TABLE crm.note (org text NOT NULL, body text);
CREATE TABLE crm.log ("TENANT_ID" bigint DEFAULT 0, line text);
CREATE TABLE "Billing 2.0"."Invoice ""x""" (
    "Tenant_Id" character varying(20) NOT NULL, "No." int NOT NULL,
    UNIQUE ("Tenant_Id", "No.")
);
CREATE TABLE "Billing 2.0".a_table_with_a_name_that_is_as_long_as_postgresql_allows_it_toB (
    tenant_id bigint, id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
CREATE TABLE "Billing 2.0".a_table_with_a_name_that_is_as_long_as_postgresql_allows_it_toC (
    tenant_id bigint, id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
CREATE TABLE crm.deferred (tenant_id bigint, id bigserial, PRIMARY KEY (id) DEFERRABLE);

INSERT INTO crm.customer VALUES (7, 1, 'a'), (8, 2, 'b');
INSERT INTO crm.address VALUES (7, 1, 1, 'x'), (8, 2, 1, 'y');
INSERT INTO crm.note VALUES ('7', 'a'), ('9000000000', 'b');
INSERT INTO crm.log VALUES (7, 'a'), (9000000000, 'b');
INSERT INTO "Billing 2.0"."Invoice ""x""" VALUES ('7', 1), ('9000000000', 1);
INSERT INTO "Billing 2.0".a_table_with_a_name_that_is_as_long_as_postgresql_allows_it_toB
    VALUES (7), (9000000000);
INSERT INTO crm.deferred VALUES (7), (9000000000);
CREATE VIEW crm.everybody AS SELECT c.name, a.street FROM crm.customer AS c JOIN crm.address AS a
    ON a.customer = c.id;
