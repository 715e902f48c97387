import os
import re
import signal
import sys
import time

import pytest
from cluster import PATIENCE, Cluster
from shop_server import ShopServer, manage, shop_environment
from watch import Observer

# Another module shows what these tests say of Django's own engine.
SETTINGS = os.environ.get("DJANGO_SETTINGS_MODULE", "django_shop.settings")
HERE = os.path.dirname(os.path.abspath(__file__))


def stop(_number, _frame):
    """As Ctrl-C does: fixtures are taken down."""
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)


def until(condition, what, seconds=PATIENCE):
    """Waits for the event itself."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still waiting: {what}"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.remove()


class Site:
    """A database with the tables of the shop, and an observer in it."""

    def __init__(self, cluster, database, python):
        maintenance = Observer(cluster.environment("postgres"))
        maintenance.ask(f"CREATE DATABASE {database}")
        maintenance.close()
        self.cluster, self.server, self.python = cluster, cluster.environment(database), python
        self.observer = Observer(self.server)
        manage(self.environment(), "migrate", "-v0")

    def environment(self, settings=SETTINGS, connections=3):
        return {**shop_environment(True, connections), **self.server, "DJANGO_SETTINGS_MODULE": settings}

    def serve(self, *arguments, **environment):
        variables = self.environment(**environment)
        variables["PYTHONPATH"] += os.pathsep + HERE
        return ShopServer(variables, python=self.python, arguments=arguments)

    def sold(self):
        """Pieces of each product, sold or still there, as the database has them."""
        return dict(
            self.observer.ask(
                "SELECT s.product_id, s.quantity + coalesce(sum(l.quantity), 0)::int"
                " FROM shop_stock s LEFT JOIN shop_orderline l USING (product_id) GROUP BY s.product_id"
            )
        )

    def orders(self):
        """tag: (number, total, total of its lines)"""
        rows = self.observer.ask(
            "SELECT o.tag, o.id, o.total, sum(l.quantity * l.price)::int"
            " FROM shop_order o JOIN shop_orderline l ON l.order_id = o.id GROUP BY o.id"
        )
        return {tag: figures for tag, *figures in rows}


@pytest.fixture
def site(cluster, request):
    """For the driver that the test is marked with."""
    driver = request.node.callspec.params.get("driver") if hasattr(request.node, "callspec") else None
    python = os.environ["SHOP_PSYCOPG"] if driver == "psycopg" else sys.executable
    site = Site(cluster, re.sub(r"\W", "_", request.node.name)[-60:], python)
    yield site
    site.observer.close()
