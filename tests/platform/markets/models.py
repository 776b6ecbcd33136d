"""The platform's markets and bets."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Market(models.Model):
    """A question."""

    slug = models.SlugField(unique=True)
    question = models.CharField(max_length=300)
    status = models.CharField(max_length=20, default="OPEN")
    closes_at = models.DateTimeField()
    fee = models.DecimalField(max_digits=5, decimal_places=2, default=5)


class Bet(models.Model):
    """A stake, in shillings."""

    market = models.ForeignKey(Market, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    outcome = models.CharField(max_length=100)
    stake = models.DecimalField(max_digits=14, decimal_places=4)
    placed_at = models.DateTimeField()
    cancelled_at = models.DateTimeField(null=True, blank=True)


class Result(models.Model):
    """How a market or a payout stands, as kasoko tells it; kasoko writes it, and this project only reads it."""

    id = models.TextField(primary_key=True)
    kind = models.TextField()
    market_id = models.TextField()
    user_id = models.TextField(null=True)
    status = models.TextField()
    outcome = models.TextField(null=True)
    amount_cents = models.BigIntegerField(null=True)
    delivered_cents = models.BigIntegerField(null=True)
    wallet_cents = models.BigIntegerField(null=True)
    withheld_cents = models.BigIntegerField(null=True)
    receipt = models.TextField(null=True)
    failure_code = models.TextField(null=True)
    changed_at = models.DateTimeField()
    version = models.BigIntegerField()

    class Meta:
        """The table is not Django's."""

        managed = False
        db_table = '"kasoko"."results"'
