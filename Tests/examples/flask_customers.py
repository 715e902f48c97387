"""Runs examples/flask_accounts.py on a real port, with eight customers, and looks at the books and the sessions.

Every session is ended half-way: the requests that were under way get 503, and their customers ask again.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import psycopg2

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
CUSTOMERS, TRANSFERS, MAX_CONNS = 8, 40, 4
OURS = "FROM pg_stat_activity WHERE application_name = 'flask_accounts'"


class Shop:
    """The program under the server that comes with Flask, which has a thread for each request."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = ["-m", "flask", "--app", str(EXAMPLES / "flask_accounts"), "run", "--port", str(self.port)]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, *command], stdout=self.log, stderr=self.log)

    def ask(self, page, **form):
        body = urlencode(form).encode() if form else None
        with urlopen(f"http://127.0.0.1:{self.port}/{page}", body, timeout=30) as response:
            return json.load(response)

    def wait(self):
        for _ in range(600):
            try:
                return self.ask("accounts/0")
            except URLError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise SystemExit(f"the server does not answer:\n{self.stop()}")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.seek(0)
        return self.log.read()


def status(shop, page, **form):
    try:
        shop.ask(page, **form)
    except HTTPError as error:
        return error.code
    return 200


def transfer(shop, unit):
    """Until it is booked; how many answers were not 200."""
    for refused in range(20):
        code = status(shop, "transfers", unit=unit, first=unit % 99, amount=unit % 7 - 3)
        if code == 200:
            return refused
        assert code == 503, code
    raise AssertionError(f"unit {unit} was never booked")


def customer(shop, number, half_way):
    refused = 0
    for turn in range(TRANSFERS):
        if number == 0 and turn == TRANSFERS // 2:
            half_way()
        refused += transfer(shop, turn * CUSTOMERS + number)
    return refused


def main():
    observer = psycopg2.connect("")
    observer.autocommit = True
    cursor = observer.cursor()
    ended = []

    def end_all_sessions():
        cursor.execute(f"SELECT count(pg_terminate_backend(pid)) {OURS}")
        ended.append(cursor.fetchone()[0])

    shop = Shop()
    try:
        assert shop.wait()["balance"] == 1000
        with ThreadPoolExecutor(CUSTOMERS) as customers:
            refused = sum(customers.map(customer, [shop] * CUSTOMERS, range(CUSTOMERS), [end_all_sessions] * CUSTOMERS))
        assert status(shop, "accounts/1000") == 404
        assert status(shop, "transfers", unit=100000, first=99, amount=1) == 404
        cursor.execute(f"SELECT count(*) {OURS}")
        sessions = cursor.fetchone()[0]
        cursor.execute("SELECT sum(balance), (SELECT count(*) FROM ledger) FROM accounts")
        books = cursor.fetchone()
        pool = shop.ask("pool")
    except Exception:
        print(shop.stop()[-4000:])
        raise
    shop.stop()
    print(f"{books} in the books, {ended} sessions ended, {refused} answers of 503, {sessions} sessions, pool {pool}")
    assert books == (100000, CUSTOMERS * TRANSFERS), books
    assert 1 <= sessions <= MAX_CONNS and ended[0] >= 1 and refused <= MAX_CONNS
    assert pool["in_use"] == 0 and pool["gets"] >= CUSTOMERS * TRANSFERS


if __name__ == "__main__":
    main()
