"""Looks, buys and reads the report, in this process: for each version of Django."""

import django
from django.test import Client

django.setup()


def tour():
    customer = Client()
    first, *_, rare = customer.get("/products", {"tag": "look"}).json()["products"]
    assert (first["name"], first["tag"], rare["name"]) == ("Book 1", "look", "First edition")
    order = customer.post("/buy", {"tag": "order", "product": [first["id"], rare["id"], rare["id"]]}).json()
    assert order["total"] == first["price"] + 2 * rare["price"]
    refused = customer.post("/buy", {"tag": "too many", "product": [rare["id"]] * rare["stock__quantity"]})
    assert (refused.status_code, refused.json()["tag"]) == (409, "too many")
    left = {row["id"]: row["stock__quantity"] for row in customer.get("/products", {"tag": "again"}).json()["products"]}
    assert left[first["id"]] == first["stock__quantity"] - 1
    assert left[rare["id"]] == rare["stock__quantity"] - 2
    report = customer.get("/report", {"tag": "report"}).json()
    assert (report["orders"], report["revenue"], report["wrong"]) == (1, order["total"], 0)


if __name__ == "__main__":
    tour()
    print("Django", django.get_version(), "fine")
