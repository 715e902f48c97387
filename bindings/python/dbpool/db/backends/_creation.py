"""Test databases: no idle session may be left on one that is to be copied or dropped."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.creation import DatabaseCreation as PlainCreation

from . import _pools


class DatabaseCreation(PlainCreation):
    def _create_test_db(self, *args: Any, **kwargs: Any) -> Any:
        # From here on the alias stands for the test database. What lies idle on the real one counts on the server, and
        # in the way of a TEMPLATE. The test database itself may be there from an earlier run.
        self.connection.close()
        self.connection.close_pool()
        _pools.close_pools_of(self._get_test_db_name())
        return super()._create_test_db(*args, **kwargs)

    def _clone_test_db(self, *args: Any, **kwargs: Any) -> Any:
        self.connection.close()
        _pools.close_pools_of(self.connection.settings_dict["NAME"])
        return super()._clone_test_db(*args, **kwargs)

    def _destroy_test_db(self, test_database_name: str, verbosity: Any) -> Any:
        _pools.close_pools_of(test_database_name)
        return super()._destroy_test_db(test_database_name, verbosity)
