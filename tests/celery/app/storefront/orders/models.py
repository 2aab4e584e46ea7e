"""What is ordered."""

from django.db import models


class Order(models.Model):
    """One order."""

    name = models.CharField(max_length=40)
    is_shipped = models.BooleanField(default=False)
