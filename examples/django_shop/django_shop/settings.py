"""The settings of the shop. What concerns the pool stands in DATABASES; the server is that of PGHOST, PGPORT, ..."""

import os

DATABASES = {
    "default": {
        "ENGINE": "dbpool.db.backends.postgresql_psycopg2",
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "NAME": os.environ.get("PGDATABASE", "shop"),
        "OPTIONS": {
            "MAX_CONNS": int(os.environ.get("MAX_CONNS", "4")),  # for each process
            "application_name": "django_shop",
        },
    }
}

INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "django_shop.urls"
WSGI_APPLICATION = "django_shop.wsgi.application"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
SECRET_KEY = os.environ.get("SECRET_KEY", "only for trying it out")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},  # the pool's logger is "dbpool"
}
