-- What a database that is made for one of this one's tenants must have in common with it.
SELECT pg_get_userbyid(d.datdba)::text AS owner, pg_encoding_to_char(d.encoding)::text AS encoding,
    d.datcollate::text AS collate, d.datctype::text AS ctype, d.datlocprovider::text AS provider,
    -- PostgreSQL 17 has datlocale, 15 and 16 daticulocale.
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
    to_jsonb(d) ->> 'daticurules' AS rules,
    d.datacl IS NOT NULL AS guarded,
    ARRAY(SELECT ARRAY[coalesce(r.rolname, ''), a.privilege_type]
          FROM aclexplode(d.datacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
          WHERE a.grantee <> d.datdba ORDER BY 1)::text[] AS grants,
    ARRAY(SELECT setting FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting
          WHERE s.setdatabase = d.oid AND s.setrole = 0 ORDER BY 1)::text[] AS settings
FROM pg_database AS d WHERE d.datname = current_database()
