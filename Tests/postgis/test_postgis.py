"""Geometry goes in and comes back through connections that were used before."""

import threading

import pytest
from conftest import POOLED
from django.contrib.gis.db.models.functions import Area, Distance
from django.contrib.gis.gdal import GDAL_VERSION
from django.contrib.gis.geos import Point, Polygon
from django.contrib.gis.measure import D
from django.db import connection, connections
from places.models import Field, Place

BRUSSELS, PARIS, LISBON = Point(4.35, 50.85, srid=4326), Point(2.35, 48.86, srid=4326), Point(-9.14, 38.72, srid=4326)
pooled_only = pytest.mark.skipif(not POOLED, reason="only of the pool")


def ask(alias, query, *arguments):
    with connections[alias].cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchone()[0]


def backend(alias="default"):
    return ask(alias, "SELECT pg_backend_pid()")


def test_migrate_created_the_extension():
    assert ask("default", "SELECT extname FROM pg_extension WHERE extname = 'postgis'") == "postgis"
    assert connection.ops.postgis_version_tuple()[1] >= 3
    assert GDAL_VERSION >= (3,)


def test_a_point_comes_back():
    Place.objects.create(name="Brussels", point=BRUSSELS)
    connection.close()
    point = Place.objects.get().point
    assert isinstance(point, Point)
    assert (point, point.srid) == (BRUSSELS, 4326)


def test_distances():
    for name, point in (("Brussels", BRUSSELS), ("Lisbon", LISBON)):
        Place.objects.create(name=name, point=point)
        connection.close()
    places = Place.objects.annotate(distance=Distance("point", PARIS)).order_by("distance")
    assert [(place.name, round(place.distance.km / 10)) for place in places] == [("Brussels", 26), ("Lisbon", 145)]
    connection.close()
    assert Place.objects.get(point__dwithin=(PARIS, D(km=300))).name == "Brussels"


def test_areas():
    square = Polygon.from_bbox((0, 0, 100, 20))
    square.srid = 3857
    Field.objects.create(area=square)
    connection.close()
    assert Field.objects.annotate(size=Area("area")).get().size.sq_m == 2000
    assert Field.objects.get(area__contains=Point(50, 10, srid=3857)).area == square


@pooled_only
@pytest.mark.parametrize("alias", ["default", "cleared"])
def test_a_session_that_is_used_again_knows_geometry(alias):
    first = backend(alias)
    for longitude in range(5):
        point = Point(longitude, 50, srid=4326)
        place = Place.objects.using(alias).create(name="somewhere", point=point)
        connections[alias].close()
        assert Place.objects.using(alias).get(pk=place.pk).point == point
        assert Place.objects.using(alias).filter(point__dwithin=(point, D(m=1))).count() == 1
        adapted = connections[alias].ops.Adapter(point)
        assert ask(alias, "SELECT ST_AsText(%s)", adapted) == f"POINT({longitude} 50)"
        connections[alias].close()
        assert backend(alias) == first


def visit(longitude, pids, faults):
    try:
        for latitude in range(20):
            point = Point(longitude, latitude, srid=4326)
            place = Place.objects.using("shared").create(name="somewhere", point=point)
            pids.add(backend("shared"))
            connections["shared"].close()
            found = Place.objects.using("shared").get(pk=place.pk).point
            if found != point:
                faults.append(f"{found} instead of {point}")
            connections["shared"].close()
    except Exception as error:
        faults.append(repr(error))
    finally:
        connections.close_all()


@pooled_only
def test_threads_share_two_sessions():
    pids, faults = set(), []
    threads = [threading.Thread(target=visit, args=(number, pids, faults)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert 1 <= len(pids) <= 2
    assert Place.objects.count() == 6 * 20
