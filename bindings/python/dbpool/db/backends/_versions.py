"""What differs between the versions of Django."""

from __future__ import annotations

from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

# OPTIONS["pool"] and the hooks for it.
HAS_OWN_POOL = django.VERSION >= (5, 1)
# BaseDatabaseWrapper.init_connection_state compares the server's version.
CHECKS_SERVER_VERSION = django.VERSION >= (4, 1)
# CONN_HEALTH_CHECKS.
HAS_HEALTH_CHECKS = django.VERSION >= (4, 1)
# Isolation levels are an enumeration of the driver's.
HAS_ISOLATION_LEVELS = django.VERSION >= (4, 2)

if HAS_ISOLATION_LEVELS:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel


def isolation_level(options: dict[str, Any]) -> Any:
    """What OPTIONS asks for, None without; as Django's get_new_connection reads it."""
    value = options.get("isolation_level")
    if value is None or not HAS_ISOLATION_LEVELS:
        return value
    try:
        return IsolationLevel(value)
    except ValueError:
        raise ImproperlyConfigured(
            f"Invalid transaction isolation level {value} specified. Use one of the psycopg.IsolationLevel values."
        ) from None


def default_isolation_level(connection: Any) -> Any:
    """What Django takes for the level of a connection when OPTIONS names none."""
    return IsolationLevel.READ_COMMITTED if HAS_ISOLATION_LEVELS else connection.isolation_level


def remove_own_pool_option(parameters: dict[str, Any]) -> None:
    """`pool` in OPTIONS, which Django itself understands from 5.1 on. Before that only False makes sense."""
    if not HAS_OWN_POOL and parameters.pop("pool", False):
        raise ImproperlyConfigured(
            "OPTIONS['pool'] turns on the pool of Django 5.1 and later: remove it, this engine pools without it"
        )
