"""What is kept in the database."""

from django.db import models


class Note(models.Model):
    """A line that somebody sent."""

    text = models.TextField()
