"""Starts examples/django_shop under gunicorn: two processes with four threads each, loaded once and then forked."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path

SHOP = Path(__file__).resolve().parent / "django_shop"
PATIENCE = 60  # seconds that a single step may take


class ShopError(Exception):
    """The shop did not do what it was told."""


def shop_environment(pooled, connections):
    """The settings of the shop; the server is that of PGHOST, PGPORT, ... of this process."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": f"django_shop.{'settings' if pooled else 'without_pool'}",
        "MAX_CONNS": str(connections),
        "PYTHONPATH": os.pathsep.join([str(SHOP), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def manage(environment, *arguments, python=sys.executable):
    """What `manage.py ARGUMENTS` prints."""
    command = [python, str(SHOP / "manage.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise ShopError(f"manage.py {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class ShopServer:
    """`with ShopServer(environment) as server:` gunicorn runs and listens at server.address; at the end it is gone."""

    def __init__(self, environment, *, python=sys.executable, workers=2, threads=4, arguments=()):
        self.environment = environment
        self.command = [
            *(python, "-m", "gunicorn", "--preload", "--worker-class", "gthread"),
            *("--workers", str(workers), "--threads", str(threads), "--log-level", "warning", *arguments),
        ]

    def __enter__(self):
        self._log = tempfile.TemporaryFile("w+")
        # The socket is made here: the port is known, and callers may come before gunicorn is ready for them.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.address = listener.getsockname()
            # Should this process be killed, gunicorn ends with it.
            self.process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "QUIT",
                    "--",
                    *self.command,
                    "--bind",
                    f"fd://{listener.fileno()}",
                    "django_shop.wsgi",
                ],
                cwd=SHOP,
                env=self.environment,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, _kind, error, _traceback):
        try:
            if self.process.poll() is None:
                self.stop()
            elif self.process.returncode != 0:
                raise ShopError(f"gunicorn ended with code {self.process.returncode}: {self.log()}") from error
            if isinstance(error, HTTPException):
                raise ShopError(f"{error}: {self.log()[-2000:]}") from error
        finally:
            self.kill()
            self._log.close()

    def stop(self, seconds=PATIENCE):
        """SIGTERM, as a supervisor sends it. The exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        """Whatever is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def log(self):
        """What gunicorn and the shop have said."""
        return Path(f"/proc/self/fd/{self._log.fileno()}").read_text()
