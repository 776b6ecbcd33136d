"""Queries for whoever watches: metrics, alerts, and times that are still to come."""
