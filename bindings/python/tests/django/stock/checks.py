"""Tests that Django's runner runs in test databases; `test_databases.py` starts it and reads what they wrote."""

import os
from urllib.request import urlopen

from django.conf import settings
from django.db import connection, connections
from django.test import LiveServerTestCase, TestCase, TransactionTestCase

from .models import Product


def write(kind, *values):
    with open(os.environ["DBPOOL_TEST_REPORT"], "a") as file:
        file.write(" ".join(map(str, [kind, *values])) + "\n")


class Checks:
    databases = set(settings.DATABASES)

    def current(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database(), pg_backend_pid()")
            return cursor.fetchone()

    def test_the_database_is_the_one_for_tests(self):
        database, process = self.current()
        self.assertEqual(database, connection.settings_dict["NAME"])
        write("database", database, process)
        self.assertEqual(Product.objects.count(), 0)
        Product.objects.create(name="lamp")

    def test_each_test_starts_with_an_empty_table(self):
        self.test_the_database_is_the_one_for_tests()


class First(Checks, TestCase):
    pass


class Second(Checks, TransactionTestCase):
    def test_the_session_lives_on_after_close(self):
        first = self.current()
        connection.close()
        self.assertEqual(self.current(), first)
        write("hit")

    def test_a_mirror_is_the_same_database(self):
        for alias in connections:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT current_database()")
                self.assertEqual(cursor.fetchone()[0], self.current()[0])


class Third(Checks, LiveServerTestCase):
    def test_a_live_server_uses_the_test_database(self):
        seen = [urlopen(self.live_server_url).read().decode() for _ in range(5)]
        self.assertEqual({answer.split(":")[0] for answer in seen}, {self.current()[0]})
        write("live", *seen)
