"""Django's tests run in environments of their own, one for each Django and driver; elsewhere there is nothing here."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent

if importlib.util.find_spec("django") is None or importlib.util.find_spec("django").origin is None:
    collect_ignore_glob = ["*"]
else:
    os.environ["DJANGO_SETTINGS_MODULE"] = "project"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ["PYTHONPATH"]])
    sys.path.insert(0, str(HERE))
    with warnings.catch_warnings():
        # Django 3.2 is older than what Python has deprecated since.
        warnings.simplefilter("ignore", DeprecationWarning)
        import django
        import server

        server.create_database()
        django.setup()
        from fixtures import add_database, all_given_back, one, tables, two  # noqa: F401


def pytest_configure(config):
    if "server" in sys.modules and django.VERSION < (4,):
        config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


def pytest_report_header():
    if "server" not in sys.modules:
        return "no Django here"
    return sys.modules["server"].report()


def pytest_unconfigure():
    if "server" in sys.modules:
        from django.db import connections

        for alias in connections:
            connections[alias].close()
            connections[alias].close_pool()
        sys.modules["server"].drop_database()
