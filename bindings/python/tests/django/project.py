"""Settings of the test project. The server is that of the environment (PGHOST, ...), the database one of our own."""

import os

ENGINE = os.environ.get("DBPOOL_TEST_ENGINE", "dbpool.db.backends.postgresql_psycopg2")
# `DBPOOL_TEST_DATABASE` is for programs that a test starts: they are to see the same one.
NAME = os.environ.setdefault("DBPOOL_TEST_DATABASE", f"engine_{os.getpid()}")


def database(engine=ENGINE, **options):
    return {
        "ENGINE": engine,
        "NAME": NAME,
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "OPTIONS": options,
    }


DATABASES = {"default": database(MAX_CONNS=8, TIMEOUT=10)}
if "DBPOOL_TEST_MIRROR" in os.environ:
    DATABASES["mirror"] = {**database(MAX_CONNS=2), "TEST": {"MIRROR": "default"}}
ROOT_URLCONF = "stock.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/static/"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.postgres", "stock"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of no use"
USE_TZ = True
TIME_ZONE = "UTC"
