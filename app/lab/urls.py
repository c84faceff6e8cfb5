"""URLs of the lab, below /lab/."""

from django.urls import path

from lab import views

app_name = "lab"

urlpatterns = [
    path("", views.index, name="index"),
    path("<slug:slug>/", views.technique, name="technique"),
]
