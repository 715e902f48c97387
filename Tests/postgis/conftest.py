import os

import django
import pytest
from django.conf import settings

ENGINE = os.environ.get("POSTGIS_ENGINE", "dbpool.db.backends.postgis")
POOLED = ENGINE.startswith("dbpool.")
VARIABLES = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}


def database(**options):
    server = {name: os.environ[variable] for name, variable in VARIABLES.items()}
    return {"ENGINE": ENGINE, "OPTIONS": options if POOLED else {}, **server}


# `cleared`: each session forgets everything when it comes back to the pool.
settings.configure(
    DATABASES={
        "default": database(MAX_CONNS=1),
        "cleared": database(MAX_CONNS=1, RESET="discard_all"),
        "shared": database(MAX_CONNS=2),
    },
    INSTALLED_APPS=["places"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()


@pytest.fixture(scope="session", autouse=True)
def tables():
    """`migrate` creates the extension, too."""
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections.close_all()


@pytest.fixture(autouse=True)
def empty_tables(tables):
    from places.models import Field, Place

    Place.objects.all().delete()
    Field.objects.all().delete()
