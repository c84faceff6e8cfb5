"""What the project answers to."""

from django.urls import path

from mysite import views

urlpatterns = [
    path("", views.index),
    path("alive", views.alive),
    path("internal/secret/", views.alive),
    path("keep/", views.keep),
    path("notes/", views.notes),
    path("pieces/", views.pieces),
    path("slow/", views.slow),
    path("told/", views.told),
    path("worker/<str:queue>/", views.worker),
]
