"""What goes on while a thread waits for a connection, and what ends the wait."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from support import run_program, under

HELD = """
import os, signal, sys, threading, time
import django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["OPTIONS"].update(MAX_CONNS=1, TIMEOUT=30)
from django.db import connection, connections

def hold():
    connection.ensure_connection()
    held.set()
    threading.Event().wait()

held = threading.Event()
threading.Thread(target=hold, daemon=True).start()
held.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_at_once(number):
    program = HELD + textwrap.dedent("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("waiting", flush=True)
        try:
            connection.ensure_connection()
        except KeyboardInterrupt:
            os._exit(7)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)  # into the wait, most likely; a signal before it must end the program as well
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 7
        assert time.monotonic() - begin < 2
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_the_program_ends_with_a_loan_out_and_threads_waiting():
    program = HELD + textwrap.dedent("""
        def wait():
            connections["default"].ensure_connection()
        for _ in range(3):
            threading.Thread(target=wait, daemon=True).start()
        pool = connection.pool
        while pool.stats().waiting < 3:
            time.sleep(0.01)
        print("ended", flush=True)
    """)
    assert run_program(program) == "ended\n"


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets_go_on_while_others_wait(kind):
    program = """
        import django
        django.setup()
        from django.conf import settings
        settings.DATABASES["default"]["OPTIONS"].update(MAX_CONNS=1, TIMEOUT=10)
        from django.db import connection, connections

        ticks = 0

        def tick():
            global ticks
            while True:
                sleep(0.01)
                ticks += 1

        def work(number):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                process = cursor.fetchone()[0]
                sleep(0.1)
            connection.close()
            return process

        spawn(tick)
        greenlets = [spawn(work, number) for number in range(5)]
        print(len({result(greenlet) for greenlet in greenlets}), ticks > 20)
    """
    assert run_program(under(kind) + textwrap.dedent(program)) == "1 True\n"
