from django.contrib.gis.db import models


class Place(models.Model):
    name = models.CharField(max_length=100)
    point = models.PointField(geography=True)  # distances in metres


class Field(models.Model):
    area = models.PolygonField(srid=3857)
