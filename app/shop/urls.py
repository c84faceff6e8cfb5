"""URLs of the shop, below /shop/."""

from django.urls import path

from shop import views

app_name = "shop"

urlpatterns = [
    path("", views.product_list, name="product_list"),
    path("hot/", views.hot_products, name="hot_products"),
    path("products/<slug:slug>/", views.product, name="product"),
]
