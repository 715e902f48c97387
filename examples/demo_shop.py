"""The part of the demonstration with Django: the shop under gunicorn, on Django's own engine and on the pool's."""

import os
import subprocess

from demo_run import BUILD, CONNECTIONS, Run, library_paths
from demo_server import ROOT, DemoError, psql
from shop_server import ShopError, manage, shop_environment

PROCESSES = 2  # of gunicorn, four threads each


def shop_python():
    """A Python with Django, psycopg2 and gunicorn; fetched from PyPI once."""
    maker = [str(ROOT / ".ci" / "shop-venv")]
    made = subprocess.run(
        maker, stdout=subprocess.PIPE, text=True, timeout=300, env={**os.environ, "BUILD": str(BUILD)}
    )
    if made.returncode != 0:
        raise DemoError("the virtual environment of the shop could not be made")
    return made.stdout.strip()


class ShopRun(Run):
    """Its requests are not done again: who asked is told that it went wrong."""

    unit, loss = "requests", "requests that failed"
    threads = ()
    session_limit = PROCESSES * CONNECTIONS

    def __init__(self, python, pooled, seconds, screen):
        super().__init__("Django", [python, str(ROOT / "examples" / "shop_load.py")], pooled, seconds, screen)

    def fill(self, database):
        environment = {**shop_environment(self.pooled, CONNECTIONS), **library_paths(), "PGDATABASE": database}
        try:
            manage(environment, "migrate", "-v0", python=self.command[0])
        except ShopError as error:
            raise DemoError(str(error)) from None
        self.pieces = int(psql(database, "-c", "SELECT sum(quantity) FROM shop_stock"))

    def read_books(self):
        query = (
            "SELECT (SELECT sum(quantity) FROM shop_stock) + (SELECT sum(quantity) FROM shop_orderline),"
            " (SELECT sum(total) FROM shop_order) - (SELECT sum(quantity * price) FROM shop_orderline),"
            " (SELECT count(*) FROM shop_order)"
        )
        figures = psql(self.database, "-c", query).split("|")
        self.pieces_left, self.money_off, self.orders = (int(figure or 0) for figure in figures)

    def faults_of_books(self):
        faults = []
        if self.pieces_left != self.pieces:
            faults.append(f"{self.pieces_left} pieces in stock and sold, not {self.pieces}")
        if self.money_off:
            faults.append(f"orders and their lines differ by {self.money_off}")
        # The answer to a COMMIT may be lost with its session.
        if not 0 <= self.orders - self.result["transfers"] <= self.result["errors"]:
            faults.append(f"{self.result['transfers']:.0f} purchases reported, {self.orders} orders")
        return faults
