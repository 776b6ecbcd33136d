"""The panels of `kasoko --help`, in the order in which they are shown."""

from __future__ import annotations

ROAD = "The road"
RECORDS = "Records"
MPESA = "M-Pesa"
BOOKS = "Books"
HOUSE = "House"
