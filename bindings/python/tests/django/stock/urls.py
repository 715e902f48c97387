from django.db import connection
from django.http import HttpResponse
from django.urls import path


def process(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), pg_backend_pid()")
        return HttpResponse("{}:{}".format(*cursor.fetchone()))


urlpatterns = [path("", process)]
