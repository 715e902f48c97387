"""Pools under one interface, each in a file that is only imported where its package is to be had."""

from __future__ import annotations

import importlib
from typing import Any

FILES = {
    "native": "native",
    "psycopg2": "hosted",
    "psycopg": "hosted",
    "psycopg_pool": "peers_psycopg",
    "psycopg_pool+check": "peers_psycopg",
    "psycopg2.pool": "peers_psycopg2",
    "SQLAlchemy": "peers_sqlalchemy",
    "SQLAlchemy+pre_ping": "peers_sqlalchemy",
    "libzdb": "peers_libzdb",
}
PEERS = tuple(name for name, file in FILES.items() if file.startswith("peers_"))


def make(name: str, words: dict[str, object], **options: Any) -> Any:
    """`words`: of the conninfo. `options`: see pools.base.Options."""
    return importlib.import_module(f"pools.{FILES[name]}").make(name, words, **options)
