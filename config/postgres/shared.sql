-- Run once by the shared PostgreSQL of docker-compose.yml, before anything else: roles and empty databases.
-- Development passwords. `tenantry init` installs the tenantry schema; your own migrations make the tables.

CREATE ROLE app LOGIN PASSWORD 'app';                 -- the services: row-level security holds for it
CREATE ROLE control LOGIN PASSWORD 'control';         -- the directory's owner

CREATE DATABASE shared;
CREATE DATABASE control OWNER control;
