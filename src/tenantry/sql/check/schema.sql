-- How far the tenantry schema of a database is installed, read by the operator's role. $1: control or data.
SELECT coalesce(max(number), 0) AS version FROM tenantry.migration WHERE side = $1
