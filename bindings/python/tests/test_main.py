"""`python -m dbpool`."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys

import pytest

import dbpool
from dbpool import _lib


def run(*arguments, **environment):
    """Exit code, output, error output."""
    process = subprocess.run(
        [sys.executable, "-m", "dbpool", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    return process.returncode, process.stdout, process.stderr


def columns(output):
    return {line.split()[0]: line.split()[1:] for line in output.splitlines()}


def test_it_tells_the_versions():
    code, output, errors = run()
    assert (code, errors) == (0, "")
    lines = columns(output)
    assert lines["dbpool"] == [dbpool.__version__, os.path.dirname(dbpool.__file__)]
    assert lines["libdbpool"] == [dbpool.library_version, _lib.file_of(_lib.version)]
    assert re.fullmatch(r"\d+\.\d+", lines["libpq"][0])
    assert os.path.basename(lines["libpq"][1]) == "libpq.so.5"
    assert lines["Python"] == [platform.python_version(), sys.executable]


def test_a_library_of_the_system_is_shown_with_its_path():
    folder, name = os.path.split(_lib.file_of(_lib.version))
    code, output, errors = run(DBPOOL_LIBRARY=name, LD_LIBRARY_PATH=folder)
    assert (code, errors) == (0, "")
    assert columns(output)["libdbpool"][1] == os.path.join(folder, name)


def test_it_tries_a_server():
    code, output, errors = run("")
    assert (code, errors) == (0, "")
    assert re.search(r"^server     PostgreSQL \d+.*, database \S+, user \S+, at .+:\d+, with(out)? TLS$", output, re.M)
    assert re.search(r"^get \+ put  \d+\.\d us, median of \d+$", output, re.M)
    assert re.search(r"^SELECT 1   \d+\.\d us, median of \d+$", output, re.M)
    assert re.search(r"^pool       .*max_size 10, total 1, idle 1, gets \d+, puts \d+, opened 1", output, re.M)
    assert os.environ["PGPASSWORD"] not in output


def test_options_of_the_pool_may_stand_in_the_conninfo():
    code, output, _ = run("pool_max_size=3 pool_min_size=2")
    assert code == 0
    assert "min_size 2, max_size 3, total 2" in output


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("conninfo", "sentence"),
    [
        ("password=S3cret-of-mine", "password authentication failed"),
        ("dbname=nowhere password=%(password)s", 'database "nowhere" does not exist'),
        ("host=127.0.0.1 port=%(port)s password=S3cret-of-mine", "Connection refused"),
        ("postgresql://app:S3cret-of-mine@db/shop?nonsense=1", "nonsense"),
        ("host=db password=S3cret-of-mine pool_max_size=none", "pool_max_size"),
    ],
)
def test_an_error_is_a_sentence_of_the_library(conninfo, sentence):
    password = os.environ["PGPASSWORD"]
    code, output, errors = run("--timeout", "2", conninfo % {"password": password, "port": closed_port()})
    assert code == 1
    assert re.fullmatch(rf"dbpool: [^\n]*{re.escape(sentence)}[^\n]*\n", errors), errors
    assert "S3cret-of-mine" not in output + errors
    assert password not in output + errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("host=db", "password=S3cret-of-mine"),
        ("--password=S3cret-of-mine",),
        ("--timeout", "soon", ""),
        ("--timeout", "postgresql://app:S3cret-of-mine@db/shop"),
        ("--timeout", "0", ""),
        ("--time", "1", ""),
    ],
)
def test_wrong_use_is_told_without_what_was_given(arguments):
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("usage: python -m dbpool ")
    assert "S3cret-of-mine" not in errors
