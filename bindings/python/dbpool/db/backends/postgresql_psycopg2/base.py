"""ENGINE = "dbpool.db.backends.postgresql_psycopg2", as with django-db-pool. The driver is Django's choice."""

from __future__ import annotations

import logging

from .._engine import PooledWrapper


class DatabaseWrapper(PooledWrapper):
    logger = logging.getLogger(__name__)
