"""The examples of docs/django.md: settings are used on the server, programs are run."""

import logging.config
import re
from pathlib import Path

import pytest
from fixtures import SETTINGS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "django.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE) if PAGE.exists() else []
OURS = ("postgresql_psycopg2", "postgresql")


def test_the_page_is_there():
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0][:30])
def test_an_example_works(block, add_database, tables):
    if "dj_database_url" in block:
        pytest.importorskip("dj_database_url")
    names = {}
    exec(block, names)
    for settings in names.get("DATABASES", {}).values():
        assert settings["ENGINE"] in {f"dbpool.db.backends.{engine}" for engine in OURS}
        assert set(settings) <= {*SETTINGS, "OPTIONS", "DISABLE_SERVER_SIDE_CURSORS"}
        wrapper = add_database(
            ENGINE=settings["ENGINE"], CONN_MAX_AGE=settings.get("CONN_MAX_AGE", 0), **settings["OPTIONS"]
        )
        wrapper.ensure_connection()
        assert wrapper.pool.stats().in_use == 1
    if "LOGGING" in names:
        logging.config.DictConfigurator(names["LOGGING"])
    assert names.keys() & {"DATABASES", "LOGGING", "connection"}


def test_all_options_are_in_the_table():
    from dbpool.db.backends._options import KNOWN

    table = re.search(r"\| in `OPTIONS` \| default.*?\n\n", PAGE.read_text(), re.DOTALL)[0]
    assert re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE) == [
        "MAX_CONNS",
        "MIN_CONNS",
        "TIMEOUT",
        "MAX_LIFETIME",
        "MAX_IDLE",
        "RESET",
        "TEST_ON_BORROW",
        "TEST_ON_BORROW_QUERY",
    ]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == set(KNOWN)
