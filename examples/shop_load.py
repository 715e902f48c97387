#!/usr/bin/env python3
"""Customers of examples/django_shop: many threads that look, buy and read the report, and check each answer.

    PYTHONPATH=bindings/python python3 examples/shop_load.py [--no-pool] [--clients 16] [--connections 4] [--seconds 4]

Starts the shop with gunicorn on the migrated database that PGHOST, PGDATABASE, ... name, and is its load. Half of the
clients keep their connection to gunicorn, the others open one for each request. Prints lines as worker_pool.py does.
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse
from collections import namedtuple

from shop_server import PATIENCE, ShopError, ShopServer, shop_environment

PROGRESS_SECONDS = 0.1

# A request that got no proper answer. `end` and `start` are of time.monotonic().
Failure = namedtuple("Failure", "start end page reason")


class WrongAnswerError(Exception):
    """An answer that belongs to somebody else, or that does not add up: ends the run."""


def check(condition, what, answer):
    if not condition:
        raise WrongAnswerError(f"{what}: {json.dumps(answer)[:300]}")


class Client(threading.Thread):
    """One customer, one request at a time. Figures of its own, which the main thread adds up."""

    def __init__(self, number, load):
        super().__init__(name=f"client-{number}", daemon=True)
        self.number, self.load = number, load
        self.keeps_alive = number % 2 == 0
        self.connection = None
        self.dice = random.Random(number)
        self.under_way = None  # since when; None between two requests
        self.durations, self.failures, self.processes = [], [], set()
        self.bought = {}  # tag: (order, total)
        self.sold_out = 0
        self.wrong = None

    def run(self):
        try:
            count = 0
            while not self.load.stopping.is_set():
                count += 1
                self.visit(f"{self.load.name}-{self.number}-{count}")
        except Exception as error:  # a wrong answer, or a mistake in this program
            self.wrong = error
            self.load.stopping.set()
        finally:
            self.disconnect()

    def visit(self, tag):
        page = self.dice.choices((self.look, self.buy, self.read_report), (6, 3, 1))[0]
        self.under_way = start = time.monotonic()
        try:
            page(tag)
            self.durations.append(time.monotonic() - start)
        except (OSError, http.client.HTTPException) as error:
            self.disconnect()
            self.failures.append(Failure(start, time.monotonic(), page.__name__, f"{type(error).__name__}: {error}"))
        finally:
            self.under_way = None

    def look(self, tag):
        products = self.ask("GET", "products", tag)["products"]
        check(len(products) == len(self.load.prices), "products are missing", products)
        check(all(row["tag"] == tag and row["stock__quantity"] >= 0 for row in products), f"not for {tag}", products)

    def buy(self, tag):
        wanted = self.dice.choices(sorted(self.load.prices), k=3)
        answer = self.ask("POST", "buy", tag, product=wanted)
        if answer.get("sold_out"):
            self.sold_out += 1
            return
        check(answer["total"] == sum(self.load.prices[product] for product in wanted), "the total", answer)
        self.bought[tag] = (answer["order"], answer["total"])

    def read_report(self, tag):
        answer = self.ask("GET", "report", tag)
        check(answer["wrong"] == 0, "orders and lines differ", answer)

    def ask(self, method, page, tag, **fields):
        """One request; its answer, which is this request's for certain."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(*self.load.address, timeout=PATIENCE)
        query = urllib.parse.urlencode({"tag": tag, **fields}, doseq=True)
        headers = {} if self.keeps_alive else {"Connection": "close"}
        if method == "GET":
            self.connection.request(method, f"/{page}?{query}", headers=headers)
        else:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            self.connection.request(method, f"/{page}", query, {**headers, **form})
        response = self.connection.getresponse()
        body = response.read()
        if not self.keeps_alive:
            self.disconnect()
        if response.status not in (200, 409):
            raise http.client.HTTPException(f"{page}: {response.status} {response.reason}")
        answer = json.loads(body)
        check(answer["tag"] == tag, f"not the answer to {tag}", answer)
        self.processes.add(answer["process"])
        return answer

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Load:
    """`with Load(address, clients) as load:` all of them are at it; afterwards its figures stay."""

    def __init__(self, address, clients, name="load"):
        self.address, self.name = address, name
        self.stopping = threading.Event()
        self.stock, self.prices = {}, {}
        first = Client(-1, self)  # asks once; its thread is never started
        try:
            for row in first.ask("GET", "products", f"{name}-first")["products"]:
                self.stock[row["id"]], self.prices[row["id"]] = row["stock__quantity"], row["price"]
        finally:
            first.disconnect()
        self.clients = [Client(number, self) for number in range(clients)]

    def __enter__(self):
        self.start = time.monotonic()
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for client in self.clients:
            client.join(2 * PATIENCE)
        self.seconds = time.monotonic() - self.start

    def wait(self, seconds):
        """True: that time is over. False: a client has ended the run."""
        return not self.stopping.wait(seconds)

    def in_flight(self):
        return sum(client.under_way is not None for client in self.clients)

    def answers(self):
        return sum(len(client.durations) for client in self.clients)

    def failures(self):
        return sorted(failure for client in self.clients for failure in list(client.failures))

    def wrong(self):
        """What ends the run, in words."""
        found = [f"{client.name}: {client.wrong!r}" for client in self.clients if client.wrong]
        return found + [f"{client.name} got no answer at all" for client in self.clients if client.is_alive()]

    def bought(self):
        return {tag: order for client in self.clients for tag, order in client.bought.items()}

    def quantiles(self):
        """Seconds within which half and 99 of 100 requests were answered."""
        durations = sorted(duration for client in self.clients for duration in client.durations)
        return [durations[len(durations) * percent // 100] if durations else 0.0 for percent in (50, 99)]


def report(kind, message):
    print(kind, message, flush=True)


def run(settings):
    """Prints the figures; True when every answer was right."""
    environment = shop_environment(settings.pooled, settings.connections)
    with ShopServer(environment) as server:
        with Load(server.address, settings.clients) as load:
            while time.monotonic() < load.start + settings.seconds and load.wait(PROGRESS_SECONDS):
                report("progress", f"queries={load.answers()} errors={len(load.failures())}")
        code, log = server.stop(), server.log()
    for failure in load.failures():
        report("lost", failure.reason)
    for wrong in load.wrong():
        report("error", wrong)
    if code != 0:
        report("error", f"gunicorn ended with code {code}: {log.strip()[-500:]}")
    bought, (p50, p99) = load.bought(), load.quantiles()
    figures = f"queries={load.answers()} transfers={len(bought)} errors={len(load.failures())} abandoned=0"
    report("result", f"seconds={load.seconds:.3f} {figures} wait_p50_us={1e6 * p50:.1f} wait_p99_us={1e6 * p99:.1f}")
    return not load.wrong() and code == 0


def main():
    parser = argparse.ArgumentParser(description="The Django shop under load.")
    parser.add_argument("--no-pool", dest="pooled", action="store_false")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--connections", type=int, default=4, help="MAX_CONNS of each of the two processes")
    parser.add_argument("--seconds", type=float, default=4)
    try:
        return 0 if run(parser.parse_args()) else 1
    except ShopError as error:
        report("error", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
