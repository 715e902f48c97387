"""Another distribution with a folder dbpool/ beside ours."""

import shutil
from pathlib import Path

import pytest
from support import run_program

PACKAGE = Path(__file__).resolve().parents[2] / "dbpool"

PROGRAM = """
import os, pathlib, sys
folder = pathlib.Path({folder!r})
(folder / {metadata!r}).mkdir(parents=True)
(folder / {metadata!r} / {file!r}).write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
sys.path.append(str(folder))
import dbpool
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import load_backend
try:
    load_backend("dbpool.db.backends.postgresql_psycopg2")
except ImproperlyConfigured as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "metadata", "file"),
    [
        ("django-db-pool", "django_db_pool-0.0.10.dist-info", "METADATA"),
        ("django-db-pool", "django_db_pool-0.0.10-py3.11.egg-info", "PKG-INFO"),
        ("dbpool", "dbpool-1.2.1.dist-info", "METADATA"),
    ],
)
def test_the_engine_refuses_and_says_what_to_do(tmp_path, name, metadata, file):
    said = run_program(PROGRAM.format(folder=str(tmp_path), name=name, metadata=metadata, file=file))
    assert f"pip uninstall {name} libdbpool, then install libdbpool again" in said


def test_it_refuses_too_where_the_other_one_was_installed_later_and_has_overwritten_files(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "both" / "dbpool", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("__init__.py", "db/__init__.py", "db/backends/postgresql_psycopg2/__init__.py"):
        (tmp_path / "both" / "dbpool" / file).write_text("")
    base = tmp_path / "both" / "dbpool" / "db" / "backends" / "postgresql_psycopg2" / "base.py"
    base.write_text("except ImportError, e: # for Python 2\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'both')!r})\n" + PROGRAM.format(
        folder=str(tmp_path / "metadata"),
        name="django-db-pool",
        metadata="django_db_pool-0.0.10.dist-info",
        file="METADATA",
    )
    assert "pip uninstall django-db-pool libdbpool" in run_program(program)
