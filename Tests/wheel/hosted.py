"""Pools of both drivers' connections, in threads. With `no-libpq` also: what a pool that connects by itself says."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import dbpool
import django
from dbpool import psycopg2_pool
from django.conf import settings

if "no-libpq" in sys.argv:
    try:
        dbpool.Pool("")
    except dbpool.SystemFailure as error:
        print("native:", error)
    else:
        raise SystemExit("a pool without libpq")

pool = psycopg2_pool.ThreadedConnectionPool(1, 4, "")


def ask_psycopg2(number):
    conn = pool.getconn()
    with conn.cursor() as cursor:
        cursor.execute("SELECT %s::int", [number])
        (answer,) = cursor.fetchone()
    pool.putconn(conn)
    return answer


with ThreadPoolExecutor(4) as threads:
    assert list(threads.map(ask_psycopg2, range(100))) == list(range(100))
pool.closeall()
print("psycopg2")

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "dbpool.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "OPTIONS": {"MAX_CONNS": 4},
        }
    },
    USE_TZ=True,
)
django.setup()
from django.db import connection  # noqa: E402 - Django wants its settings first


def ask_django(number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int", [number])
        (answer,) = cursor.fetchone()
    driver = connection.Database.__name__
    connection.close()
    return driver, answer


with ThreadPoolExecutor(4) as threads:
    answers = list(threads.map(ask_django, range(100)))
assert [answer for _, answer in answers] == list(range(100))
print("Django", *sorted({driver for driver, _ in answers}))
