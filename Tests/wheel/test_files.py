"""What the wheel and the sdist are, before anybody installs them."""

import json
import os
import re
import subprocess
import tarfile
import zipfile
from email.parser import Parser

import pytest
from conftest import DIST, PROJECT, SDIST, WHEEL

VERSION = re.search(r'^#define POOL_VERSION "(.*)"$', (PROJECT / "include/dbpool.h").read_text(), re.M).group(1)
PLATFORM = f"manylinux_2_34_{os.uname().machine}"
PACKAGE = PROJECT / "bindings" / "python" / "dbpool"
SOURCES = {
    f"dbpool/{file.relative_to(PACKAGE)}" for pattern in ("**/*.py", "py.typed") for file in PACKAGE.glob(pattern)
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The one inside the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(WHEEL) as archive:
        return archive.extract("dbpool/libdbpool.so.0", folder)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def in_wheel(name):
    with zipfile.ZipFile(WHEEL) as archive:
        return Parser().parsestr(archive.read(f"libdbpool-{VERSION}.dist-info/{name}").decode())


def test_the_names_have_the_version_of_the_header():
    assert WHEEL.name == f"libdbpool-{VERSION}-py3-none-{PLATFORM}.whl"
    assert SDIST.name == f"libdbpool-{VERSION}.tar.gz"


def test_the_wheel_has_all_sources_the_library_and_nothing_else():
    with zipfile.ZipFile(WHEEL) as archive:
        names = set(archive.namelist())
    info = f"libdbpool-{VERSION}.dist-info"
    licences = ("licenses/LICENSE", "licenses/LICENSE.swift")
    described = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", *licences)}
    assert names == SOURCES | described | {"dbpool/libdbpool.so.0"}


def test_the_sdist_is_pure_python():
    with tarfile.open(SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {"LICENSE", "LICENSE.swift", "README.md", "PKG-INFO", "hatch_build.py", "pyproject.toml", ".gitignore"}
    assert names == SOURCES | others


def test_the_wheel_is_for_one_platform_and_every_python():
    described = in_wheel("WHEEL")
    assert described["Tag"] == f"py3-none-{PLATFORM}"
    assert described["Root-Is-Purelib"] == "false"


def test_auditwheel_names_the_same_platform():
    report = json.loads(run("auditwheel", "show", "--json", str(WHEEL)))
    assert PLATFORM in json.dumps(report)
    assert f'following platform tag: "{PLATFORM}"' in " ".join(run("auditwheel", "show", str(WHEEL)).split())


def test_the_metadata_are_complete():
    described = in_wheel("METADATA")
    assert (described["Name"], described["Version"]) == ("libdbpool", VERSION)
    assert described["Requires-Python"] == ">=3.9"
    assert described["License-Expression"] == "BSD-3-Clause"
    assert described.get_all("License-File") == ["LICENSE", "LICENSE.swift"]
    assert described.get_all("Provides-Extra") == ["django", "psycopg", "psycopg2", "sqlalchemy"]
    assert all("extra ==" in needed for needed in described.get_all("Requires-Dist"))
    assert described["Summary"]
    assert "## Installing" in described.get_payload()


def test_the_sources_need_no_later_python():
    run("vermin", "--target=3.9-", "--violations", "--no-tips", str(PACKAGE))


def test_the_library_does_not_know_libpq_by_name(library):
    symbols = run("nm", "-D", "--undefined-only", library)
    assert "dlopen" in symbols
    assert not re.findall(r"\b(?:PQ|pq)\w+", symbols)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", library))
    assert set(needed) <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}


def test_the_library_needs_no_later_glibc(library):
    symbols = run("nm", "-D", "--undefined-only", library)
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"@GLIBC_([\d.]+)", symbols)}
    assert max(versions) <= (2, 34), max(versions)


def test_the_library_is_stripped_and_has_its_build_id(library):
    assert "no symbols" in subprocess.run(["nm", library], capture_output=True, text=True, check=False).stderr
    assert ".debug_info" not in run("readelf", "-SW", library)
    assert "Build ID" in run("readelf", "-nW", library)


def test_the_same_sources_give_the_same_bytes(tmp_path):
    library = DIST.parent / "lib" / "libdbpool.so.0"
    run(str(PROJECT / ".ci" / "wheel"), str(library), str(tmp_path / "dist"))
    for file in (WHEEL, SDIST):
        assert (tmp_path / "dist" / file.name).read_bytes() == file.read_bytes(), file.name
