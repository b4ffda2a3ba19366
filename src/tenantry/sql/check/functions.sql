-- Which functions of the tenantry schema a database has, read by the operator's role. $1: control or data.
SELECT form, checksum FROM tenantry.function_set WHERE side = $1
