"""ENGINE = "dbpool.db.backends.postgresql". The driver is Django's choice."""

from __future__ import annotations

import logging

from .._engine import PooledWrapper


class DatabaseWrapper(PooledWrapper):
    logger = logging.getLogger(__name__)
