"""Values of every type, for tests of what carries them and compares them."""

from __future__ import annotations

import re

#: A value of every type of PostgreSQL's own, and one that differs from it as little as may be.
VALUES = {
    "bool": ("true", "false"),
    "bytea": (r"\x00ff", r"\x00fe"),
    '"char"': ("a", "A"),
    "name": ("one", "one "),
    "int8": ("4294967297", "0"),  # the two halves of each are equal
    "int2": ("-1", "1"),
    "int2vector": ("1 2", "2 1"),
    "int4": ("1", "0"),
    "regproc": ("pg_catalog.now", "pg_catalog.timeofday"),
    "text": ("a", "a "),
    "oid": ("4294967295", "0"),
    "tid": ("(1,1)", "(1,2)"),
    "xid": ("3", "4"),
    "cid": ("3", "4"),
    "oidvector": ("1 2", "1 2 3"),
    "json": ('{"a":1}', '{"a": 1}'),
    "xid8": ("3", "4"),
    "point": ("(0,1)", "(-0,1)"),
    "lseg": ("[(0,0),(1,1)]", "[(1,1),(0,0)]"),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "box": ("(1,1),(0,0)", "(1,1),(0,1e-300)"),
    "polygon": ("((0,0),(1,1),(2,0))", "((1,1),(2,0),(0,0))"),
    "line": ("{1,2,3}", "{2,4,6}"),
    "float4": ("0", "-0"),
    "float8": ("0.3", "0.30000000000000004"),
    "money": ("12.34", "12.35"),
    "circle": ("<(0,0),1>", "<(0,0),1.0000000000000002>"),
    "macaddr": ("08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    "inet": ("10.0.0.1/24", "10.0.0.1"),
    "cidr": ("10.0.0.0/24", "10.0.0.0/25"),
    "macaddr8": ("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    "aclitem": ("postgres=r/postgres", "postgres=r*/postgres"),
    "bpchar": ("a", "a "),
    "varchar": ("", "\n"),
    "date": ("2026-01-02", "infinity"),
    "time": ("12:00:00.000001", "12:00:00"),
    "timestamp": ("2026-01-02 03:04:05.000001", "2026-01-02 03:04:05"),
    "timestamptz": ("2026-01-02 03:04:05.000001+00", "2026-01-02 03:04:05.000001+01"),
    "interval": ("1 day", "24 hours"),
    "timetz": ("12:00:00+01", "11:00:00+00"),
    "bit": ("1", "0"),
    "varbit": ("10", "100"),
    "numeric": ("1.0", "1.00"),
    "refcursor": ("a", "b"),
    "regprocedure": ("pg_catalog.lower(text)", "pg_catalog.upper(text)"),
    "regoper": ("pg_catalog.||/", "pg_catalog.|/"),
    "regoperator": ("pg_catalog.+(integer,integer)", "pg_catalog.-(integer,integer)"),
    "regclass": ("pg_catalog.pg_class", "pg_catalog.pg_type"),
    "regcollation": ('pg_catalog."C"', 'pg_catalog."POSIX"'),
    "regtype": ("integer", "bigint"),
    "regrole": ("postgres", "pg_monitor"),
    "regnamespace": ("pg_catalog", "information_schema"),
    "uuid": ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"),
    "pg_lsn": ("0/1", "0/2"),
    "tsvector": ("a:1", "a:2"),
    "tsquery": ("a & b", "b & a"),
    "regconfig": ("pg_catalog.simple", "pg_catalog.english"),
    "regdictionary": ("pg_catalog.simple", "pg_catalog.english_stem"),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}'),
    "jsonpath": ("$.a", "$.b"),
    "txid_snapshot": ("10:20:10", "10:20:10,11"),
    "pg_snapshot": ("10:20:10", "10:20:10,11"),
    "int4range": ("[1,5)", "empty"),
    "numrange": ("[1.0,2)", "[1.00,2)"),
    "tsrange": ("[2026-01-01,2026-01-02)", "[2026-01-01,2026-01-02]"),
    "tstzrange": ("[2026-01-01,2026-01-02)", "[2026-01-01,)"),
    "daterange": ("[2026-01-01,2026-01-02)", "(,2026-01-02)"),
    "int8range": ("[1,5)", "[1,6)"),
    "int4multirange": ("{[1,5)}", "{}"),
    "nummultirange": ("{[1.0,2)}", "{[1.00,2)}"),
    "tsmultirange": ("{[2026-01-01,2026-01-02)}", "{}"),
    "tstzmultirange": ("{[2026-01-01,2026-01-02)}", "{}"),
    "datemultirange": ("{[2026-01-01,2026-01-02)}", "{}"),
    "int8multirange": ("{[1,5)}", "{}"),
    # Arrays of each way in which elements go in, and types that are not PostgreSQL's own.
    "text[]": ("{NULL}", '{"NULL"}'),
    "int4[]": ("{1,2}", "[0:1]={1,2}"),
    "aclitem[]": ("{postgres=r/postgres}", "{postgres=r*/postgres}"),
    "regclass[]": ("{pg_catalog.pg_class}", "{pg_catalog.pg_type}"),
    '"My App".mood': ("sad", "happy"),
    '"My App".mood[]': ("{sad}", "{happy}"),
    '"My App".pair': ("(1,)", '(1,"")'),
    '"My App".grade': ("1.0", "1.00"),
    '"My App".moods': ("[sad,happy]", "[sad,sad]"),
}
#: Types that take no input here: xml wants a server with libxml, which the wheel's are not.
NOT_STORED = {
    "xml", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary", "gtsvector",
}  # fmt: skip

#: Types whose binary form holds object ids, or that have none.
WITHOUT_BINARY = re.compile('reg|aclitem|"My App"')

TYPES = """
CREATE SCHEMA "My App";
CREATE TYPE "My App".mood AS ENUM ('sad', 'happy');
CREATE TYPE "My App".pair AS (a int, b text);
CREATE DOMAIN "My App".grade AS numeric;
CREATE TYPE "My App".moods AS RANGE (subtype = "My App".mood);
-- A cast that says the same of all values: the comparison must not lean on it.
CREATE FUNCTION "My App".mumble("My App".mood) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''mood''';
CREATE CAST ("My App".mood AS text) WITH FUNCTION "My App".mumble;
"""
