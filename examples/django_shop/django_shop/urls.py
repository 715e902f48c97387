from django.urls import path
from shop import views

urlpatterns = [
    path("products", views.products),
    path("buy", views.buy),
    path("report", views.report),
]
