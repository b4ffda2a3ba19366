-- Takes the audit log's numbers on past those that entries of this database have: those that are here, and those
-- that are about to be stored (the databases $1, the numbers $2). A database that was made anew under its old name
-- counts from 1 again, and would give numbers out that its tenants bring back.
--
-- Number by number, since setval could take the counter back under somebody who writes meanwhile.
WITH counter AS (SELECT pg_get_serial_sequence('tenantry.audit_log', 'id')::regclass AS id),
used AS (
    SELECT greatest((SELECT max(a.id) FROM tenantry.audit_log AS a WHERE a.database = l.name),
                    (SELECT max(e.id) FROM unnest($1::text[], $2::bigint[]) AS e(database, id)
                     WHERE e.database = l.name)) AS last
    FROM tenantry.database_identity AS l)
SELECT count(nextval(c.id))
FROM counter AS c, used AS u, generate_series(coalesce(pg_sequence_last_value(c.id), 0) + 1, u.last)
