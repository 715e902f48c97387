"""ENGINE = "dbpool.db.backends.postgis": GeoDjango's engine, with a pool below it."""

from __future__ import annotations

import logging

from django.contrib.gis.db.backends.postgis.base import DatabaseWrapper as PostGISWrapper

from .._engine import PooledWrapper


class DatabaseWrapper(PostGISWrapper, PooledWrapper):
    logger = logging.getLogger(__name__)
