from django.db import models


class Order(models.Model):
    """What a task writes."""

    name = models.CharField(max_length=40)
