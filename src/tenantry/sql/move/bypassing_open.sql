-- Open sessions in this database whose role bypasses the fence: nothing of theirs need be locked now, but what
-- they write past it, nobody stops. Ours are left out.
SELECT format('%s (%s%s)', usename, coalesce(nullif(application_name, ''), 'no name'),
              CASE WHEN count(*) > 1 THEN format(', %s sessions', count(*)) ELSE '' END) AS who
FROM pg_stat_activity AS a JOIN pg_roles AS r ON r.rolname = a.usename
WHERE a.datname = current_database() AND (r.rolsuper OR r.rolbypassrls) AND a.backend_type = 'client backend'
  AND a.pid <> pg_backend_pid() AND a.application_name NOT LIKE 'tenantry%'
GROUP BY usename, application_name ORDER BY 1
