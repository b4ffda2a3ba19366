"""What the tests are made with: programs, databases, a PgBouncer, a network that misbehaves."""
