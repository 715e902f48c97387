"""Products and what is left of each; orders and their lines. Prices are in cents."""

from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=100, unique=True)
    price = models.PositiveIntegerField()


class Stock(models.Model):
    """A table of its own: a purchase locks its row here, and nobody who only reads products waits for it."""

    product = models.OneToOneField(Product, on_delete=models.PROTECT, primary_key=True)
    quantity = models.PositiveIntegerField()


class Order(models.Model):
    tag = models.CharField(max_length=100, unique=True)  # the customer's own number for it
    total = models.PositiveIntegerField()
    created = models.DateTimeField(auto_now_add=True)


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    price = models.PositiveIntegerField()  # when it was sold
