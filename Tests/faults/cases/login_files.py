"""Files that a login reads: certificates, services, passwords."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import dbpool
from cluster import AS_SERVER, PASSWORD
from failures import Skip
from table import fault
from trial import TIMEOUT, Trial

BOUND = TIMEOUT * 1000 + 250


def fails_in_time(trial: Trial, words: dict[str, object], cause: str) -> None:
    """At the making of the pool, or at a get by its deadline; either way the cause is named."""
    try:
        pool = trial.pool(full=False, min_size=0, words=words)
    except Exception as error:
        trial.check(cause in str(error), f"the error does not name the cause: {error}")
        trial.check(isinstance(error, dbpool.InvalidArgument) or trial.pool_name != "native", type(error).__name__)
        return
    call = trial.calls.use(pool)
    trial.check(call.error is not None, "somebody was served")
    trial.check(cause in str(call.error), f"the error does not name the cause: {call.error}")
    trial.errors = 0  # that was to be
    pool.close()


def tls(trial: Trial, name: str) -> Path:
    """The server gets a certificate for this name; its root certificate."""
    if shutil.which("openssl") is None:
        raise Skip("there is no openssl")
    key, certificate = trial.cluster.data / "server.key", trial.cluster.data / "server.crt"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    named = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *named, *files], check=True, capture_output=True, timeout=30)
    key.chmod(0o600)
    if AS_SERVER:
        shutil.chown(key, "postgres", "postgres")
    root = Path(trial.folder) / "root.crt"
    shutil.copyfile(certificate, root)
    trial.cluster.settings["ssl"] = "on"
    trial.cluster.restart()
    return root


@fault("L20", "certificate of another host with sslmode=verify-full", own_server=True)
def wrong_host(trial: Trial) -> None:
    root = tls(trial, "db.example")
    words: dict[str, object] = {"sslmode": "verify-full", "sslrootcert": str(root)}
    fails_in_time(trial, words, "does not match host name")
    # The certificate itself is fine.
    fine = trial.pool(full=False, min_size=0, words={**words, "sslmode": "verify-ca"})
    trial.check(trial.calls.use(fine).error is None, "verify-ca does not work either")


@fault("L21", "certificate of nobody known, and a root certificate that is not there", own_server=True)
def unknown_issuer(trial: Trial) -> None:
    root = tls(trial, "db.example")
    other = Path(trial.folder) / "other.crt"
    other.write_text("no certificate\n")
    fails_in_time(trial, {"sslmode": "verify-full", "sslrootcert": str(other)}, "root certificate")
    fails_in_time(trial, {"sslmode": "verify-full", "sslrootcert": str(root) + ".not"}, "root certificate file")


@fault("L22", "TLS required, server has none", quick=True)
def no_tls(trial: Trial) -> None:
    fails_in_time(trial, {"sslmode": "require"}, "does not support SSL")


@fault("L23", "service that is not in the service file, and file with errors")
def service(trial: Trial) -> None:
    file = Path(trial.folder) / "services"
    os.environ["PGSERVICEFILE"] = str(file)
    fails_in_time(trial, {"service": "nowhere"}, "service file")
    file.write_text(f"[there]\nport={trial.cluster.port}\n")
    # Between the quotes the native pool shows nothing: it might be a password.
    fails_in_time(trial, {"service": "nowhere"}, "definition of service ")
    file.write_text("[there]\nnonsense\n")
    fails_in_time(trial, {"service": "there"}, "syntax error in service file")


@fault("L24", "password file that others may read")
def passfile(trial: Trial) -> None:
    file = Path(trial.folder) / "passfile"
    file.write_text(f"*:*:*:*:{PASSWORD}\n")
    file.chmod(0o644)
    words: dict[str, object] = {"passfile": str(file), "password": ""}
    fails_in_time(trial, words, "no password supplied")
    file.chmod(0o600)
    fine = trial.pool(full=False, min_size=0, words=words)
    trial.check(trial.calls.use(fine).error is None, "it does not work with the right permissions")
