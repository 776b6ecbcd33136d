"""As few settings as Django needs; the database is the one of PLATFORM_DATABASE_URL."""

from __future__ import annotations

import os

from sqlalchemy import make_url

_URL = make_url(os.environ["PLATFORM_DATABASE_URL"])

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "tests.platform.users",
    "tests.platform.markets",
]
AUTH_USER_MODEL = "users.CustomUser"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Africa/Nairobi"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.database,
        "USER": _URL.username or "",
        "PASSWORD": _URL.password or "",
        "HOST": _URL.query.get("host", _URL.host) or "",
        "PORT": str(_URL.port or ""),
    }
}
