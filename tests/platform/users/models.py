"""The platform's people, by Django's own model of a user."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class CustomUser(AbstractUser):
    """Somebody with an account: bettors and staff."""

    name = models.CharField(max_length=200)
    phone = models.CharField(max_length=20, blank=True)
