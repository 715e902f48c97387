"""Django's engine for PostgreSQL with a pool below it: `postgresql_psycopg2`, `postgresql` (the same) and `postgis`."""
