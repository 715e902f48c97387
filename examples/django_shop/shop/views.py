"""The pages of the shop, all in JSON. Each answer carries the caller's tag: a mixed-up answer would be seen."""

import os
from collections import Counter

from django.db import transaction
from django.db.models import CharField, Value
from django.http import JsonResponse
from django.views.decorators.http import require_GET, require_POST

from .models import Order, OrderLine, Product, Stock


def answer(tag, status=200, **content):
    return JsonResponse({"tag": tag, "process": os.getpid(), **content}, status=status)


@require_GET
def products(request):
    """What there is. The tag goes to the database and comes back with each row."""
    tag = request.GET["tag"]
    rows = Product.objects.annotate(tag=Value(tag, output_field=CharField())).order_by("id")
    listed = list(rows.values("id", "name", "price", "tag", "stock__quantity"))
    return answer(tag, products=listed)


@require_POST
def buy(request):
    """One transaction: the rows of the stock are locked, in ascending order so that no two purchases deadlock."""
    tag = request.POST["tag"]
    wanted = Counter(int(product) for product in request.POST.getlist("product"))
    with transaction.atomic():
        stocks = Stock.objects.select_for_update(of=("self",)).select_related("product").order_by("product_id")
        stocks = list(stocks.filter(product_id__in=wanted))
        if len(stocks) < len(wanted) or any(stock.quantity < wanted[stock.product_id] for stock in stocks):
            return answer(tag, status=409, sold_out=True)
        total = sum(stock.product.price * wanted[stock.product_id] for stock in stocks)
        order = Order.objects.create(tag=tag, total=total)
        for stock in stocks:
            quantity = wanted[stock.product_id]
            order.lines.create(product=stock.product, quantity=quantity, price=stock.product.price)
            stock.quantity -= quantity
            stock.save(update_fields=["quantity"])
    return answer(order.tag, order=order.id, total=total)


@require_GET
def report(request):
    """The newest sales, read through a server-side cursor; orders whose lines do not add up would be counted."""
    lines = OrderLine.objects.select_related("order").order_by("-order_id", "id")[: int(request.GET.get("lines", 200))]
    paid, sold = {}, {}
    for line in lines.iterator(chunk_size=50):
        paid[line.order_id] = line.order.total
        sold[line.order_id] = sold.get(line.order_id, 0) + line.quantity * line.price
    oldest = min(paid, default=0)  # some of its lines may be beyond the limit
    wrong = sum(paid[order] != sold[order] for order in paid if order != oldest)
    return answer(request.GET["tag"], orders=len(paid), revenue=sum(sold.values()), wrong=wrong)
