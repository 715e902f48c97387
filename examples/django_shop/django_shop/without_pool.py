"""The same shop on Django's own engine, for comparison: each request opens a connection and closes it."""

from .settings import *  # noqa: F403
from .settings import DATABASES

DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
del DATABASES["default"]["OPTIONS"]["MAX_CONNS"]
