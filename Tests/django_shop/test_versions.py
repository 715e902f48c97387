"""The shop on each version of Django: its migrations, forwards and backwards, and its pages."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, SETTINGS
from shop_server import manage

VERSIONS = os.environ["SHOP_VERSIONS"].split()


@pytest.mark.parametrize("version", VERSIONS, ids=os.path.basename)
def test_pages_and_migrations(site, version):
    python, environment = f"{version}/bin/python", site.environment(SETTINGS)
    tour = [python, str(Path(__file__).with_name("tour.py"))]
    done = subprocess.run(tour, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["fine"]), done.stdout + done.stderr
    assert "No changes detected" in manage(environment, "makemigrations", "--check", "--dry-run", python=python)
    assert "CREATE TABLE" in manage(environment, "sqlmigrate", "shop", "0001", python=python)
    assert "class ShopOrder(models.Model)" in manage(environment, "inspectdb", python=python)
    manage(environment, "migrate", "-v0", "shop", "zero", python=python)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'shop!_%' ESCAPE '!'"
    assert site.observer.ask(tables) == [(0,)]
    manage(environment, "migrate", "-v0", python=python)
    assert site.observer.ask(tables) == [(4,)]
