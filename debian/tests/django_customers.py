"""Eight customers buy in the shop at the same time, through HTTP, on four connections."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode
from urllib.request import urlopen

import django
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connection
from django_shop.wsgi import application

CUSTOMERS, PURCHASES, MAX_CONNS = 8, 10, 4


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


def ask(shop, page, form=None, **query):
    body = form and urlencode(form, doseq=True).encode()
    with urlopen(f"{shop}/{page}?{urlencode(query)}", body, timeout=30) as response:
        return json.load(response)


def buy(shop, customer):
    """Every answer is the one to this customer's question."""
    for number in range(PURCHASES):
        tag = f"customer {customer} order {number}"
        assert ask(shop, "buy", {"tag": tag, "product": [1]})["tag"] == tag
        listed = ask(shop, "products", tag=tag)["products"]
        assert {row["tag"] for row in listed} == {tag}, listed


def sessions():
    """Those of the pool, seen from one of its own connections."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'django_shop'")
        count = cursor.fetchone()[0]
    connection.close()
    return count


def main():
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
    server.set_app(application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shop = f"http://127.0.0.1:{server.server_address[1]}"
    with ThreadPoolExecutor(CUSTOMERS) as customers:
        list(customers.map(buy, [shop] * CUSTOMERS, range(CUSTOMERS)))
    report = ask(shop, "report", tag="report", lines=1000)
    assert (report["orders"], report["wrong"]) == (CUSTOMERS * PURCHASES, 0), report
    count = sessions()
    assert 1 < count <= MAX_CONNS, count
    server.shutdown()
    engine = connection.settings_dict["ENGINE"]
    print(f"Django {django.get_version()}, {engine}: {report['orders']} orders, {count} sessions")


if __name__ == "__main__":
    main()
