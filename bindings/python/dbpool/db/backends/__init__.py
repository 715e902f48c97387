"""Django's engine for PostgreSQL with a pool below it: `postgresql_psycopg2`, `postgresql` (the same) and `postgis`."""

from ._strangers import refuse_strangers

# Here, because another distribution with a folder dbpool/ may have replaced the files above, but has none of this name.
refuse_strangers()
