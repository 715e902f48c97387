"""The sdist, which takes the library of the system, and libraries and neighbours that do not fit."""

import re
import shutil

import pytest
from conftest import BUILD, PROJECT, SDIST, WHEEL, bare_environment, pins
from test_files import VERSION

SYSTEM = str(BUILD / "lib")  # stands for the folder of the system's libraries


@pytest.fixture(scope="module")
def from_sdist():
    made = bare_environment("sdist")
    made.install(SDIST)
    return made


def test_the_sdist_uses_the_library_of_the_system(from_sdist):
    output = from_sdist.python("-m", "dbpool", "", LD_LIBRARY_PATH=SYSTEM).succeeded()
    assert f"libdbpool  {VERSION}    {SYSTEM}/libdbpool.so.0\n" in output
    assert f"dbpool     {VERSION}    {from_sdist.folder}/lib/python3" in output
    assert "server     PostgreSQL" in output


@pytest.mark.skipif(shutil.which("ldconfig") is None, reason="there is no ldconfig")
def test_without_a_library_the_import_says_what_to_do(from_sdist):
    tried = from_sdist.python("-c", "import dbpool")
    if tried.code == 0:
        pytest.skip("libdbpool0 is installed on this system")
    assert re.search(
        r"^ImportError: libdbpool is not to be loaded: libdbpool\.so\.0: cannot open .*\. Set DBPOOL_LIBRARY to the "
        r"path of libdbpool\.so\.0, or install it: ",
        tried.errors,
        re.M,
    )


@pytest.fixture
def plain():
    """An environment with the wheel alone."""
    made = bare_environment("plain")
    made.install(WHEEL)
    return made


def test_a_library_of_another_version_is_refused(plain, compile_library):
    (library,) = plain.folder.glob("lib/python3*/site-packages/dbpool/libdbpool.so.0")
    library.unlink()
    compile_library('const char *pool_version(void) { return "0.0.9"; }', library)
    tried = plain.python("-c", "import dbpool")
    assert f"ImportError: {library} is libdbpool 0.0.9, which does not fit the Python package" in tried.errors


REMEDY = "Run `pip uninstall django-db-pool libdbpool`, then install libdbpool again"
ENGINE = """
from django.conf import settings
settings.configure()
import dbpool.db.backends.postgresql.base
"""


def test_django_db_pool_that_came_later_is_refused_and_the_remedy_works(plain):
    plain.install(*pins("django-5.2", "psycopg2"))
    plain.install("--no-deps", "django-db-pool==0.0.10")
    for program in ("import dbpool.pool", "import dbpool.__main__", ENGINE):
        assert REMEDY in plain.python("-c", program).errors, program
    plain.uninstall("django-db-pool", "libdbpool")
    plain.install(WHEEL)
    plain.python("-m", "dbpool").succeeded()


def test_django_db_pool_that_came_first_is_refused():
    made = bare_environment("django-db-pool")
    made.install("--no-deps", "django-db-pool==0.0.10")
    made.install(WHEEL)
    assert REMEDY in made.python("-c", "import dbpool").errors


def test_nothing_says_that_the_strangers_distribution_be_installed():
    wrong = re.compile(r"pip3? install (?:[^\n`]* )?dbpool(?![-_\w./])")
    folders = ("bindings", "docs", "examples", "Tests", "debian", ".ci", "README.md", "Makefile", "CHANGELOG.md")
    files = [file for name in folders for file in (PROJECT / name, *(PROJECT / name).rglob("*")) if file.is_file()]
    assert len(files) > 100
    assert [str(file) for file in files if wrong.search(file.read_bytes().decode("utf-8", "replace"))] == []
