"""Settings for Django's own test-suite: two databases on the server that PGHOST and its kin name.

DBPOOL_SUITE_ENGINE is the engine's path; with DBPOOL_SUITE_POOL, JSON, as additional OPTIONS.
"""

from __future__ import annotations

import json
import os


def database(alias: str) -> dict[str, object]:
    return {
        "ENGINE": os.environ["DBPOOL_SUITE_ENGINE"],
        "NAME": f"django_{alias}",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "OPTIONS": json.loads(os.environ.get("DBPOOL_SUITE_POOL", "{}")),
    }


DATABASES = {alias: database(alias) for alias in ("default", "other")}

# As in the settings that come with the suite.
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "django_tests_secret_key"
USE_TZ = False

TEST_RUNNER = "suite_runner.RecordingRunner"
