"""A role whose password takes one round of hashing instead of 4096: to see what those take, and for programs under
valgrind, where they would take minutes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess


def cheap_login() -> dict[str, str]:
    """An environment with such a role, and without TLS."""
    password, salt = "counted", b"instructions"
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.new(key, name, "sha256").digest() for name in (b"Client Key", b"Server Key"))
    salt, stored, server = (base64.b64encode(one).decode() for one in (salt, hashlib.sha256(client).digest(), server))
    create = f"CREATE ROLE counted LOGIN PASSWORD 'SCRAM-SHA-256$1:{salt}${stored}:{server}'"
    subprocess.run(
        ["psql", "-Xqc", "SET client_min_messages = warning", "-c", "DROP ROLE IF EXISTS counted", "-c", create],
        check=True,
    )
    return {**os.environ, "PGUSER": "counted", "PGPASSWORD": password, "PGSSLMODE": "disable"}
