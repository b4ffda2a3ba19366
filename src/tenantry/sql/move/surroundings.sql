-- What a database has beside its tables, and a product may lean on: a line for each thing, with its kind, its name, what it
-- is ("" where the name says all), and the statement that makes it ("": a dump of the schema does).
WITH own AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND nspname !~ '^pg_(toast|temp)'
), extended AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT 'extension' AS kind, format('%I', extname) AS name, extversion AS value,
       format('CREATE EXTENSION %I SCHEMA %I', extname, n.nspname) AS make
FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace
UNION ALL
SELECT 'event trigger', format('%I', evtname), concat_ws(' ', evtevent, evtenabled::text, evtfoid::regprocedure::text,
           array_to_string(evttags, ', ')),
       format('CREATE EVENT TRIGGER %I ON %s%s EXECUTE FUNCTION %s', evtname, evtevent,
              ' WHEN TAG IN (' || (SELECT string_agg(quote_literal(tag), ', ') FROM unnest(evttags) AS tag) || ')',
              evtfoid::regprocedure)
FROM pg_event_trigger WHERE ('pg_event_trigger'::regclass, oid) NOT IN (SELECT classid, objid FROM extended)
UNION ALL
SELECT 'function', p.oid::regprocedure::text, CASE WHEN p.prokind = 'a' THEN '' ELSE pg_get_functiondef(p.oid) END,
       CASE WHEN p.prokind = 'a' THEN '' ELSE pg_get_functiondef(p.oid) END
FROM pg_proc AS p JOIN own ON own.oid = p.pronamespace
WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM extended)
UNION ALL
SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, format('%I.%I', own.nspname, c.relname),
       coalesce(array_to_string(c.reloptions, ', ') || ' ', '') || pg_get_viewdef(c.oid),
       format('CREATE %s %I.%I%s AS %s', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END,
              own.nspname, c.relname, ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
              rtrim(pg_get_viewdef(c.oid), '; '))
FROM pg_class AS c JOIN own ON own.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)
UNION ALL
SELECT 'default privilege', concat_ws(' ', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_get_userbyid(a.grantee)) END,
           a.privilege_type, 'on', k.kind, 'made by', format('%I', pg_get_userbyid(d.defaclrole)), 'in schema ' || n.nspname),
       '', format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s GRANT %s ON %s TO %s', pg_get_userbyid(d.defaclrole),
                  ' IN SCHEMA ' || quote_ident(n.nspname), a.privilege_type, k.kind,
                  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_get_userbyid(a.grantee)) END)
FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) AS a,
     LATERAL (SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                     WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind) AS k
WHERE a.grantee <> d.defaclrole
UNION ALL
SELECT 'comment', format('TABLE %I.%I', own.nspname, c.relname), d.description,
       format('COMMENT ON TABLE %I.%I IS %L', own.nspname, c.relname, d.description)
FROM pg_description AS d JOIN pg_class AS c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
JOIN own ON own.oid = c.relnamespace WHERE d.objsubid = 0 AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'comment', format('COLUMN %I.%I.%I', own.nspname, c.relname, a.attname), d.description,
       format('COMMENT ON COLUMN %I.%I.%I IS %L', own.nspname, c.relname, a.attname, d.description)
FROM pg_description AS d JOIN pg_class AS c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.objsubid
JOIN own ON own.oid = c.relnamespace WHERE d.objsubid > 0 AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'owner', format('TABLE %I.%I', own.nspname, c.relname), pg_get_userbyid(c.relowner)::text,
       format('ALTER TABLE %I.%I OWNER TO %I', own.nspname, c.relname, pg_get_userbyid(c.relowner))
FROM pg_class AS c JOIN own ON own.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)
UNION ALL
SELECT 'publication', format('%I', p.pubname), CASE WHEN p.puballtables THEN 'all tables' ELSE 'some tables' END, ''
FROM pg_publication AS p WHERE p.pubname !~ '^tenantry_'
UNION ALL
SELECT 'subscription', format('%I', s.subname), coalesce((
           SELECT string_agg(format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')),
                             chr(10) ORDER BY 1) FROM pg_subscription_rel AS r
           JOIN pg_class AS c ON c.oid = r.srrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE r.srsubid = s.oid), ''), ''
FROM pg_subscription AS s
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.subname !~ '^tenantry_'
UNION ALL
SELECT 'large objects', count(*)::text, '', '' FROM pg_largeobject_metadata HAVING count(*) > 0
UNION ALL
SELECT 'setting', CASE WHEN setdatabase = 0 THEN '' ELSE 'here' END || ' ' || coalesce(format('%s', r.rolname), ''),
       setting, ''
FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.oid IS NOT NULL)
ORDER BY 1, 2
