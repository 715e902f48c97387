"""Django's wrapper of a connection, with a loan from a pool in place of a connection of its own.

One mechanism for all versions: where Django connects and closes, the wrapper borrows and gives back. The hooks of
Django 5.1 (`pool`, `_connection_pools`) are not enough: they know a pool by its alias alone, lend without an owner, and
do not exist before.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.postgresql import base as plain
from django.db.utils import ProgrammingError
from django.utils.asyncio import async_unsafe

from ... import _connecting, errors
from ..._connecting import Parameters
from ..._refusing import is_refusing
from . import _drivers, _fork, _options, _pools, _versions
from ._creation import DatabaseCreation
from ._features import DatabaseFeatures
from ._session import Session


class _Known(NamedTuple):
    """The key of the pool that a wrapper used last, and what that was made of: dear to make at every loan."""

    key: _pools.Key
    parameters: Parameters
    settings: Parameters

    def holds(self, wrapper: PooledWrapper, parameters: dict[str, Any]) -> bool:
        return (
            parameters == self.parameters
            and wrapper.settings_dict == self.settings
            and wrapper.timezone_name == self.key.session.time_zone
            and bool(django_settings.USE_TZ) == self.key.uses_timezones
        )


class PooledWrapper(plain.DatabaseWrapper):
    """Stands below other wrappers of Django's (PostGIS) and above the plain one, so that `super()` leads here."""

    connection: Any
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    # Its name is that of the engine's module, which users of django-db-pool have in LOGGING.
    logger = logging.getLogger(__name__)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: _Known | None = None
        _fork.watch(self)

    @property
    def pool(self) -> Any:
        """The pool of this alias: `stats()`, `resize()`, ... None when the pool is off."""
        if self._is_pooled():
            return self._pool_for(self.get_connection_params())
        return getattr(super(), "pool", None)

    def close_pool(self) -> None:
        """Idle connections are closed now, lent ones when they are given back. The next use makes a new pool."""
        if self._is_pooled():
            _pools.close_pool(self.alias)
        elif _versions.HAS_OWN_POOL:
            super().close_pool()

    @property
    def keeps_loan(self) -> bool:
        """Shared with other threads: the end of the one that borrowed does not end the loan. Read in a finalizer, so
        without the lock of `allow_thread_sharing`."""
        return bool(self._thread_sharing_count)

    def forget_loan(self) -> None:
        """In a forked child, where the session is the parent's. A transaction cannot go on here."""
        if self.connection is not None and self._lender() is not None:
            self.connection = None
            if self.in_atomic_block:
                self.closed_in_transaction = self.needs_rollback = True

    # ------------------------------------------------------------------------------------ what Django calls

    def get_connection_params(self) -> Any:
        # What Django has it in, too, when it connects: its page of an error shows the variables of all frames.
        parameters = Parameters(super().get_connection_params())
        for name in _options.names(self.settings_dict["OPTIONS"]):
            parameters.pop(name, None)
        _versions.remove_own_pool_option(parameters)
        # Django 3.2 sets it after connecting, at every loan.
        parameters.setdefault("client_encoding", "UTF8")
        return parameters

    @async_unsafe
    def get_new_connection(self, conn_params: Any) -> Any:
        if not self._is_pooled():
            return super().get_new_connection(_connecting.resolved(conn_params))
        level = _versions.isolation_level(self.settings_dict["OPTIONS"])
        pool, connection = self._borrow(conn_params)
        try:
            if level is None:
                self.isolation_level = _versions.default_isolation_level(connection)
            else:
                self.isolation_level = connection.isolation_level = level
        except BaseException:
            pool.putconn(connection)
            raise
        return connection

    def init_connection_state(self) -> None:
        if not self._is_pooled():
            super().init_connection_state()
            return
        if _versions.CHECKS_SERVER_VERSION:
            # Not the plain wrapper's, which sets up what `Session.configure` has set up.
            BaseDatabaseWrapper.init_connection_state(self)
        role_is_lost = self.settings_dict["OPTIONS"].get("RESET", "rollback") != "rollback"
        if self._session().restore(self.connection, role_is_lost=role_is_lost) and not self.get_autocommit():
            self.connection.commit()

    def ensure_timezone(self) -> bool:
        """Called when the settings change. The pool is then another one, see `_pools.Key`."""
        if not self._is_pooled():
            return bool(super().ensure_timezone())
        return self.connection is not None and self._session().restore(self.connection, role_is_lost=False)

    if not _versions.HAS_OWN_POOL:
        # From 5.1 on Django expects `connection` to be None after a close in an atomic block. Before, the closed
        # connection stays there and says so when used; one that was given back may be somebody else's by now.

        def connect(self) -> None:
            if self.in_atomic_block and self.closed_in_transaction:
                raise ProgrammingError("Cannot open a new connection in an atomic block.")
            super().connect()

        def is_usable(self) -> bool:
            return self.connection is not None and bool(super().is_usable())

    def _set_autocommit(self, autocommit: bool) -> None:
        # The pool lends connections that are in that mode. The drivers take locks, or let other threads have the
        # interpreter, also for what stays as it is.
        if not (self._is_pooled() and _drivers.is_idle(self.connection) and self.connection.autocommit == autocommit):
            super()._set_autocommit(autocommit)

    def create_cursor(self, name: Any = None) -> Any:
        cursor = super().create_cursor(name)
        lender = self._lender() if name else None
        if lender is not None:
            # Django makes some of its server-side cursors without the connection's help.
            lender.guard(cursor)
        return cursor

    def chunked_cursor(self) -> Any:
        """Of an iterator. When that ends after its loan, or is abandoned, there is nothing left to close."""
        wrapped = super().chunked_cursor()
        cursor = wrapped.cursor
        wrapped.close = lambda: None if is_refusing(cursor) else cursor.close()
        return wrapped

    def _close(self) -> None:
        if not self._is_pooled():
            super()._close()
            return
        lender, connection, self.connection = self._lender(), self.connection, None
        # Without a lender it has come back already: its thread had ended.
        if lender is not None:
            with self.wrap_database_errors:
                lender.putconn(connection)

    def close_if_health_check_failed(self) -> None:
        # Called for every cursor. The pool lends healthy ones.
        if not self._is_pooled():
            super().close_if_health_check_failed()

    # --------------------------------------------------------------------------------------------- the pool

    def _is_pooled(self) -> bool:
        """Not for work on the server as a whole (making test databases); not when OPTIONS["pool"] says something:
        False is "no pool", and True or a dict Django's own."""
        return self.alias != NO_DB_ALIAS and "pool" not in self.settings_dict["OPTIONS"]

    def _lender(self) -> Any:
        """The pool that lent the connection, None for one that no pool of ours has lent."""
        pool = getattr(self.connection, "_pool", None)
        return pool if isinstance(pool, _drivers.Pool) else None

    def _borrow(self, parameters: Any) -> tuple[Any, Any]:
        started, timeout = time.monotonic(), None
        while True:
            pool = self._pool_for(parameters)
            try:
                return pool, pool.getconn(timeout, owner=self)
            except errors.PoolClosed:
                # Replaced between the two calls, or during the wait? Then there is another one.
                if _pools.is_current(self.alias, pool):
                    raise
            timeout = max(0.0, started + pool.seconds(None) - time.monotonic())
            if timeout == 0 and pool.seconds(None) > 0:
                pool.fail(errors.PoolTimeout, f"alias {self.alias} is used with several sets of parameters in turn")
            parameters = self.get_connection_params()

    def _pool_for(self, parameters: Any) -> Any:
        known = self._known
        if known is not None and known.holds(self, parameters):
            pool = _pools.pool_with(self.alias, known.key)
            if pool is not None:
                return pool
        age = self.settings_dict.get("CONN_MAX_AGE", 0)
        if age != 0:
            raise ImproperlyConfigured(
                f"DATABASES[{self.alias!r}]: remove CONN_MAX_AGE; the pool keeps connections (CONN_MAX_AGE is {age!r})"
            )
        health_checks = bool(self.settings_dict.get("CONN_HEALTH_CHECKS", False))
        key = _pools.Key(
            parameters=Parameters((name, value) for name, value in parameters.items() if name != "context"),
            adapters=parameters.get("context"),
            uses_timezones=bool(django_settings.USE_TZ),
            options=_options.ours(self.settings_dict["OPTIONS"]),
            health_checks=health_checks,
            session=self._session(),
        )
        entry = _pools.entry_for(self.alias, key, lambda: self._make_pool(key), self.logger)
        settings = Parameters(self.settings_dict)
        settings["OPTIONS"] = dict(settings["OPTIONS"])
        self._known = _Known(entry.key, Parameters(parameters), settings)
        return entry.pool

    def _make_pool(self, key: _pools.Key) -> Any:
        options = _options.parse(key.options, alias=self.alias, health_checks=key.health_checks)
        self.logger.info(
            "Creating connection pool for db alias %s: MIN_CONNS = %s, MAX_CONNS = %s, TEST_ON_BORROW = %s",
            self.alias,
            options.min_size,
            options.max_size,
            options.test_query is not None,
        )
        parameters = Parameters(key.parameters)
        if key.adapters is not None:
            parameters["context"] = key.adapters
        try:
            return _drivers.Pool(
                parameters,
                configure=key.session.configure,
                autocommit=bool(self.settings_dict["AUTOCOMMIT"]),
                name=self.alias,
                **options._asdict(),
            )
        except errors.InvalidArgument as error:
            raise ImproperlyConfigured(f"DATABASES[{self.alias!r}]: {error}") from error

    def _session(self) -> Session:
        return Session(self.timezone_name, self.settings_dict["OPTIONS"].get("assume_role"))
