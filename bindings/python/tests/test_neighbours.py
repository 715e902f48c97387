"""Another distribution with a folder dbpool/ in the same folder as ours."""

from __future__ import annotations

import shutil

import pytest
from conftest import PACKAGE
from support import run_program

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
try:
    import {module}
    print("imported", {module}.__file__)
except ImportError as error:
    print(error)
"""


@pytest.fixture
def folder(tmp_path):
    """Our package, installed."""
    shutil.copytree(PACKAGE / "dbpool", tmp_path / "dbpool", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def install(folder, metadata, file, name):
    (folder / metadata).mkdir(parents=True)
    (folder / metadata / file).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def said(folder, module="dbpool"):
    return run_program(PROGRAM.format(folder=str(folder), module=module))


@pytest.mark.parametrize(
    ("metadata", "file", "name", "normal"),
    [
        ("django_db_pool-0.0.10.dist-info", "METADATA", "django-db-pool", "django-db-pool"),
        ("django_db_pool-0.0.10-py3.11.egg-info", "PKG-INFO", "Django_DB.Pool", "django-db-pool"),
        ("django-db-pool.egg-info", "PKG-INFO", "django-db-pool", "django-db-pool"),
        ("dbpool-1.2.1.dist-info", "METADATA", "dbpool", "dbpool"),
    ],
)
def test_the_import_refuses_and_says_what_to_do(folder, metadata, file, name, normal):
    install(folder, metadata, file, name)
    message = said(folder)
    assert message.startswith(f"{normal} is installed beside libdbpool in {folder}: ")
    assert f"Run `pip uninstall {normal} libdbpool`, then install libdbpool again" in message


def test_it_names_both(folder):
    install(folder, "dbpool-1.2.1.dist-info", "METADATA", "dbpool")
    install(folder, "django_db_pool-0.0.10.dist-info", "METADATA", "django-db-pool")
    assert "pip uninstall dbpool django-db-pool libdbpool" in said(folder)


@pytest.mark.parametrize("module", ["dbpool.pool", "dbpool.psycopg2_pool", "dbpool.__main__"])
def test_it_refuses_too_where_the_other_one_came_later_and_has_overwritten_files(folder, module):
    install(folder, "django_db_pool-0.0.10.dist-info", "METADATA", "django-db-pool")
    for file in ("__init__.py", "db/__init__.py", "db/backends/__init__.py"):
        (folder / "dbpool" / file).write_text("")
    assert "pip uninstall django-db-pool libdbpool" in said(folder, module)


@pytest.mark.parametrize(
    "metadata", ["libdbpool-0.1.0.dist-info", "dbpool_extras-1.0.dist-info", "dbpooling-1.0.dist-info"]
)
def test_other_names_are_no_neighbours(folder, metadata):
    install(folder, metadata, "METADATA", metadata.partition("-")[0])
    assert said(folder) == f"imported {folder / 'dbpool' / '__init__.py'}\n"


def test_what_an_uninstallation_has_left_is_no_neighbour(folder):
    (folder / "dbpool-1.2.1.dist-info").mkdir()
    assert said(folder).startswith("imported ")


def test_one_elsewhere_on_the_path_does_no_harm(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    install(other, "django_db_pool-0.0.10.dist-info", "METADATA", "django-db-pool")
    program = f"import sys; sys.path.append({str(other)!r})\n" + PROGRAM.format(folder=str(folder), module="dbpool")
    assert run_program(program).startswith("imported ")


def test_looking_for_them_imports_nothing(folder):
    """importlib.metadata alone takes as long to import as this package."""
    program = PROGRAM.format(folder=str(folder), module="dbpool") + "print('importlib.metadata' in sys.modules)"
    assert run_program(program, arguments=["-S"]).endswith("\nFalse\n")
