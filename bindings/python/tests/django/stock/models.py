from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=100, unique=True)
    count = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    details = models.JSONField(default=dict)
    offered = DateTimeRangeField(null=True)
    changed = models.DateTimeField(null=True)

    class Meta:
        app_label = "stock"


class Sale(models.Model):
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    note = models.TextField(default="")

    class Meta:
        app_label = "stock"
