-- Roles for @database@: run once by a role that may make roles (and again to change the passwords). With psql 14 or newer:
--
--     psql "@by@" -v ON_ERROR_STOP=1 -f roles.sql
--
-- The passwords are read from the environment: tenantry.env has them.
\getenv app_password APP_PASSWORD
\getenv control_password CONTROL_PASSWORD

-- The scopes' role: row-level security holds for it. `tenantry init` and `tenantry rls apply` grant what it needs.
SELECT @create_app@ WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = @app_text@) \gexec
ALTER ROLE @app_sql@ PASSWORD :'app_password';

-- The directory's role: it reads and writes tenantry's control tables, and has no right on yours.
SELECT @create_control@ WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = @control_text@) \gexec
ALTER ROLE @control_sql@ PASSWORD :'control_password';

GRANT CONNECT ON DATABASE @database_sql@ TO @app_sql@, @control_sql@;
-- The operators' role is the one that owns your tables. It becomes the scopes' for probes and reports.
GRANT @app_sql@ TO @owner_sql@;
@bypass_sql@@schema_sql@