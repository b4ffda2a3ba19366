-- Run once by the dedicated PostgreSQL of docker-compose.yml: the same service role, and one tenant's database.
-- Development passwords.

CREATE ROLE app LOGIN PASSWORD 'app';

CREATE DATABASE acme;
