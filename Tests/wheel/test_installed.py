"""The wheel in a fresh environment of each Python: with the libpq of the system, without any, and with bad ones."""

import re

import pytest
from conftest import PROJECT
from test_files import VERSION

HERE = PROJECT / "Tests" / "wheel"
FUNCTIONS = re.findall(r"FUNCTION\(\w+, (PQ\w+)\)", (PROJECT / "Sources/CPoolShims/pool_libpq.c").read_text())


@pytest.fixture(scope="module")
def system_libpq(environment):
    (found,) = re.findall(r"^libpq +\S+ +(.+)$", environment.python("-m", "dbpool").succeeded(), re.M)
    return found


def test_what_is_installed_is_what_is_loaded(environment):
    facts = environment.facts()
    assert facts["version"] == facts["package_version"] == facts["library_version"] == VERSION
    assert facts["package"].startswith(f"{environment.folder}/lib/python3")
    assert facts["library"] == f"{facts['package']}/libdbpool.so.0"
    assert facts["loaded"] == [facts["library"]]  # and no libpq before anybody wants one
    assert facts["required"] == []


def test_a_pool_connects_by_itself_with_the_libpq_of_the_system(environment, system_libpq):
    output = environment.python("-m", "dbpool", "").succeeded()
    assert re.search(r"^server     PostgreSQL .* with TLS$", output, re.M)
    assert system_libpq.startswith(("/lib/", "/usr/lib"))


def test_threads_may_be_the_first_at_the_same_time(environment):
    for _ in range(5):
        assert environment.python(HERE / "native.py").succeeded().startswith("native ")


def test_pools_of_both_drivers_connections(environment):
    assert environment.python(HERE / "hosted.py").succeeded().split("\n") == ["psycopg2", "Django psycopg", ""]


# ---------------------------------------------------------------------------------------------------- without libpq


def test_without_libpq_the_versions_are_told_all_the_same(environment, without_libpq):
    output = environment.python("-m", "dbpool", prefix=without_libpq).succeeded()
    assert re.search(r"^libpq      none +libpq\.so\.5: cannot open .*: pools of a driver's", output, re.M)


def test_without_libpq_a_pool_that_connects_by_itself_says_what_to_install(environment, without_libpq):
    tried = environment.python("-m", "dbpool", "", prefix=without_libpq)
    assert tried.code == 1
    assert re.fullmatch(
        r"dbpool: a pool that connects by itself needs libpq, 14 or later, which cannot be used here: libpq\.so\.5: "
        r"cannot open shared object file: No such file or directory \(the package is libpq5 in Debian .*\)\n",
        tried.errors,
    )


def test_without_libpq_pools_of_both_drivers_connections_work(environment, without_libpq):
    output = environment.python(HERE / "hosted.py", "no-libpq", prefix=without_libpq).succeeded()
    assert re.match(r"native: .* libpq\.so\.5: cannot open shared object file", output)
    assert output.split("\n")[1:] == ["psycopg2", "Django psycopg", ""]


# ------------------------------------------------------------------------------------------------------- a bad libpq


def test_a_libpq_that_is_too_old_is_told_by_the_function_it_lacks(environment, compile_library, tmp_path):
    assert "PQpipelineStatus" in FUNCTIONS
    names = {*FUNCTIONS, "PQlibVersion", "PQexec"} - {"PQpipelineStatus"}
    source = "\n".join(f"int {name}(void) {{ return 130000; }}" for name in sorted(names))
    compile_library(source, tmp_path / "libpq.so.5")
    program = "import dbpool\ntry: dbpool.Pool('')\nexcept dbpool.SystemFailure as error: print(error)"
    said = environment.python("-c", program, LD_LIBRARY_PATH=str(tmp_path)).succeeded()
    assert "needs libpq, 14 or later, which cannot be used here: libpq.so.5 has no function PQpipelineStatus" in said


def test_a_file_that_is_no_libpq_is_told_in_the_words_of_the_loader(environment, tmp_path):
    (tmp_path / "libpq.so.5").write_text("not a library, but long enough to have a header: " + 100 * "x")
    program = "import dbpool\ntry: dbpool.Pool('')\nexcept dbpool.SystemFailure as error: print(error)"
    said = environment.python("-c", program, LD_LIBRARY_PATH=str(tmp_path)).succeeded()
    assert f"{tmp_path}/libpq.so.5: invalid ELF header" in said


@pytest.fixture
def libpq_with(environment, compile_library, system_libpq, tmp_path):
    """Makes a libpq.so.5 that has more than that of the system, which it needs by its path: its own name is taken."""

    def made(source, *flags):
        real = compile_library("", tmp_path / "stub.so", f"-Wl,-soname,{system_libpq}")
        on_top = tmp_path / "first" / "libpq.so.5"
        compile_library(source, on_top, "-Wl,-soname,libtop.so,--no-as-needed", "-xnone", *map(str, flags), str(real))
        return {"LD_LIBRARY_PATH": str(on_top.parent)}

    return made


OPENSSL = """
#include <stdio.h>
int OPENSSL_init_ssl(unsigned long options, const void *settings) {
  (void)settings;
  return printf("%#lx\\n", options) > 0;
}
"""


def test_the_openssl_that_libpq_brought_is_kept_from_ending_itself_at_exit(environment, libpq_with):
    """It is no symbol of the program's: not found there, it would end itself below threads that are inside."""
    found = environment.python("-c", "import dbpool; dbpool.Pool('sslmode=require').close()", **libpq_with(OPENSSL))
    assert found.succeeded() == "0x80040\n"  # LOAD_CONFIG, NO_ATEXIT


# What a child inherits in the middle of this has been loaded, and never gets its turn to initialise itself.
SLOW = """
#include <fcntl.h>
#include <time.h>
__attribute__((constructor)) static void linger(void) {
  const struct timespec span = {0, 200000000};
  (void)open(BEGUN, O_WRONLY | O_CREAT, 0644);
  (void)nanosleep(&span, 0);
}
"""
ON_TOP = """
static int version;
__attribute__((constructor)) static void initialise(void) { version = 150000; }
int PQlibVersion(void) { return version; }
"""


def test_a_child_forked_while_libpq_is_loaded_gets_its_pool(environment, compile_library, libpq_with, tmp_path):
    begun, slow = tmp_path / "begun", tmp_path / "libslow.so"
    compile_library(SLOW, slow, f"-Wl,-soname,{slow}", f'-DBEGUN="{begun}"')
    forked = environment.python(HERE / "forking.py", begun, **libpq_with(ON_TOP, slow))
    assert forked.succeeded() == "15.0\n"
