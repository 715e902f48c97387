"""Test databases: made, cloned, used and dropped by Django's runner, in a process whose pool is warm already."""

import os

import django
import project
import pytest
import server
from support import eventually, run_program

PROGRAM = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore")
if __name__ == "__main__":
    if {method!r} != "fork":
        multiprocessing.set_start_method({method!r})
    import django
    django.setup()
    from django.db import connections
    from django.test.runner import DiscoverRunner
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_database(), pg_backend_pid()")
            print("warm", *cursor.fetchone())
        connections[alias].close()
    sys.stderr = sys.stdout
    runner = DiscoverRunner(verbosity=1, interactive=False, parallel={parallel}, pattern="checks.py")
    print("failures", runner.run_tests(["stock.checks"]))
"""


def run(tmp_path, monkeypatch, parallel=1, method="fork"):
    """What the checks wrote, by kind."""
    report = tmp_path / "report"
    monkeypatch.setenv("DBPOOL_TEST_REPORT", str(report))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(parallel=parallel, method=method))
    output = run_program(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", seconds=120)
    assert f"warm {project.NAME} " in output
    assert "failures 0" in output, output
    lines = [line.split() for line in report.read_text().splitlines()]
    return {kind: [line[1:] for line in lines if line[0] == kind] for kind, *_ in lines}


def assert_dropped():
    left = {name for name in server.databases() if name.startswith(f"test_{project.NAME}")}
    assert left == set()


def test_tests_run_in_the_test_database_though_the_pool_is_warm(tmp_path, monkeypatch):
    written = run(tmp_path, monkeypatch)
    assert {database for database, _ in written["database"]} == {f"test_{project.NAME}"}
    assert len(written["hit"]) == 1
    assert written["live"]
    assert_dropped()


@pytest.mark.parametrize("method", ["fork", *(["spawn"] if django.VERSION >= (4, 2) else [])])
def test_parallel_tests_run_in_clones_which_are_dropped(tmp_path, monkeypatch, method):
    written = run(tmp_path, monkeypatch, parallel=2, method=method)
    clones = {f"test_{project.NAME}_{number}" for number in (1, 2)}
    assert {database for database, _ in written["database"]} <= clones
    assert len(written["hit"]) == 1
    assert_dropped()


def test_the_pool_of_a_mirror_does_not_keep_the_test_database(tmp_path, monkeypatch):
    monkeypatch.setenv("DBPOOL_TEST_MIRROR", "1")
    written = run(tmp_path, monkeypatch)
    assert {database for database, _ in written["database"]} == {f"test_{project.NAME}"}
    assert_dropped()


def test_the_real_database_has_no_session_after_the_program(tmp_path, monkeypatch):
    before = server.sessions()
    run(tmp_path, monkeypatch)
    assert eventually(lambda: server.sessions() <= before)
    assert os.environ["DBPOOL_TEST_DATABASE"] == project.NAME
