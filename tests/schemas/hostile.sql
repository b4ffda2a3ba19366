-- Names that a statement put together without care breaks on; {T} is the tenant column, {a} and {b} are tenants.
CREATE SCHEMA "My App";
CREATE SCHEMA "it's";
CREATE TABLE {orders} ({T} uuid NOT NULL, "No%s" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Bill To" text);
CREATE TABLE {lines} ({T} uuid NOT NULL, "Id" serial PRIMARY KEY,
    "Order" bigint NOT NULL REFERENCES {orders} ("No%s"), "Was" bigint REFERENCES {orders} ("No%s"));
CREATE TABLE {days} ({T} uuid NOT NULL, "Day" date, "Id" int, PRIMARY KEY ({T}, "Day", "Id")) PARTITION BY RANGE ("Day");
CREATE TABLE {part} PARTITION OF {days} FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE {log} ({T} uuid NOT NULL, "Day" date) PARTITION BY RANGE ("Day");
CREATE TABLE "it's"."Log 2026" PARTITION OF {log} FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "My App"."50%" (code text PRIMARY KEY);
CREATE VIEW {view} AS SELECT * FROM {orders};
CREATE MATERIALIZED VIEW {sums} AS SELECT {T}, count(*) FROM {orders} GROUP BY 1;
INSERT INTO {orders} ({T}, "Bill To") VALUES ('{a}', 'x'), ('{b}', 'y');
INSERT INTO {lines} ({T}, "Order") SELECT {T}, "No%s" FROM {orders};
INSERT INTO {days} VALUES ('{a}', '2026-05-05', 1), ('{b}', '2026-05-05', 1);
