"""What Django's own test-suite has to know of the engine."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.features import DatabaseFeatures as PlainFeatures
from django.utils.functional import cached_property

from ._versions import HAS_HEALTH_CHECKS

_HEALTH_CHECKS = "backends.base.test_base.ConnectionHealthChecksTests.test_"
# Django skips the first two for its own pool as well.
_SKIPS = {
    "The pool makes the health checks.": {
        _HEALTH_CHECKS + "health_checks_enabled",
        _HEALTH_CHECKS + "set_autocommit_health_checks_enabled",
    },
    "CONN_MAX_AGE is refused.": {
        _HEALTH_CHECKS + "health_checks_disabled",
        _HEALTH_CHECKS + "health_checks_enabled_errors_occurred",
        "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
    },
}


class DatabaseFeatures(PlainFeatures):
    @cached_property
    def django_test_skips(self) -> Any:
        skips = super().django_test_skips
        return {**skips, **_SKIPS} if HAS_HEALTH_CHECKS else skips
