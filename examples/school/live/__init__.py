"""The product at work on an embedded PostgreSQL, and a page that shows it: `make example`."""
