"""One program of the demonstration: run it, end its sessions half-way, and judge what it and the server say."""

import os
import signal
import subprocess
import tempfile
import threading
import time

from demo_server import PATIENCE, ROOT, create_database, kill_sessions, psql, sessions_seen, wait_until_left

BUILD = ROOT / os.environ.get("BUILD", "build")
THREADS, CONNECTIONS = 8, 4
MONEY = 100 * 1000  # of schema.sql: transfers move it about, and none may be lost


def library_paths():
    library = BUILD / "lib"
    return {
        "LD_LIBRARY_PATH": str(library),
        "DBPOOL_LIBRARY": str(library / "libdbpool.so.0"),
        "PYTHONPATH": str(ROOT / "bindings" / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def bar(fraction, width=20):
    done = round(width * min(fraction, 1))
    return "#" * done + "." * (width - done)


def milliseconds(microseconds):
    value = microseconds / 1000
    return f"{value:.3f} ms" if value < 1 else f"{value:.1f} ms"


def numbers_in(text):
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


class Run:
    """One program: run it, kill its sessions half-way, and keep what it and the server say."""

    unit, loss = "queries", "attempts lost and done again"
    threads = ("--threads", str(THREADS))
    session_limit = CONNECTIONS

    def __init__(self, language, command, pooled, seconds, screen):
        self.language, self.pooled, self.seconds, self.screen = language, pooled, seconds, screen
        self.database = f"demo_{language.lower()}_{'pool' if pooled else 'nopool'}"
        self.title = f"{language}, {'pool of ' + str(CONNECTIONS) if pooled else 'no pool'}"
        sizes = [*self.threads, "--connections", str(CONNECTIONS), "--seconds", str(seconds)]
        self.command = [*command, *sizes, *([] if pooled else ["--no-pool"])]
        self.result = {}
        self.killed = 0
        self.queries_at_kill = 0
        self.first_loss = None
        self.complaints = []
        self.start = 0.0

    def execute(self):
        self.screen.update(f"  {self.title:18} creating a database")
        before = create_database(self.database, self.fill)
        with tempfile.TemporaryFile("w+") as errors:
            code = self.run_program(errors)
            errors.seek(0)
            self.judge_exit(code, errors.read())
        wait_until_left(self.database)
        established, self.sessions_killed = sessions_seen(self.database)
        self.connections = established - before
        self.read_books()

    def fill(self, database):
        psql(database, "-f", str(ROOT / "examples" / "schema.sql"))

    def read_books(self):
        """The money in all accounts, and the number of transfers in the ledger."""
        query = "SELECT (SELECT sum(balance) FROM accounts), (SELECT count(*) FROM ledger)"
        self.money, self.booked = (int(figure) for figure in psql(self.database, "-c", query).split("|"))

    def run_program(self, errors):
        self.start = time.monotonic()
        environment = {**os.environ, "PGDATABASE": self.database, **library_paths()}
        process = subprocess.Popen(
            self.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        # A program that hangs is a failure to be told about, not one to wait for.
        watchdog = threading.Timer(self.seconds + PATIENCE, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                self.read(line.strip())
            return process.wait()
        finally:
            watchdog.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()

    def judge_exit(self, code, printed):
        """Bare libpq prints the server's farewell to an idle connection; the pool promises to print nothing."""
        if code != 0:
            self.complaints.append(f"exit code {code}")
        if printed and (code != 0 or self.pooled):
            self.complaints.append(f"on standard error: {printed.strip()}")

    def read(self, line):
        kind, _, rest = line.partition(" ")
        if kind == "progress":
            self.progress(numbers_in(rest))
        elif kind == "result":
            self.result = numbers_in(rest)
        elif kind == "lost":
            if self.killed and self.first_loss is None:
                self.first_loss = rest
        else:
            self.complaints.append(line)

    def progress(self, figures):
        elapsed = time.monotonic() - self.start
        rate = figures["queries"] / elapsed
        note = f", {self.killed} sessions killed" if self.killed else ""
        self.screen.update(
            f"  {self.title:18} [{bar(elapsed / self.seconds)}] {elapsed:4.1f} s {rate:8,.0f} {self.unit}/s, "
            f"{figures['errors']:.0f} errors{note}"
        )
        # Without the pool sessions are short: there may be none just now, then there is one at the next look.
        if not self.killed and elapsed >= self.seconds / 2:
            self.killed = kill_sessions(self.database)
            self.queries_at_kill = figures["queries"]

    def faults(self):
        """What is not as it should be, in words; empty when the program did its work."""
        faults = list(self.complaints)
        if not self.result:
            return [*faults, "no result"]
        if not self.killed:
            faults.append("no session was there to be killed")
        if self.result["queries"] <= self.queries_at_kill:
            faults.append(f"no {self.unit} succeeded after the sessions were killed")
        if self.pooled and self.connections - self.sessions_killed > self.session_limit:
            faults.append(
                f"{self.connections} connections, {self.sessions_killed} killed: too many for {self.session_limit}"
            )
        return faults + self.faults_of_books()

    def faults_of_books(self):
        faults = []
        if self.result["abandoned"]:
            faults.append(f"{self.result['abandoned']:.0f} units of work failed five times and were given up")
        if self.booked != self.result["transfers"]:
            faults.append(f"{self.result['transfers']:.0f} transfers reported, {self.booked} in the ledger")
        if self.money != MONEY:
            faults.append(f"the accounts hold {self.money}, not {MONEY}")
        return faults

    def summary(self):
        if not self.result:
            return f"  {self.title:18} failed"
        after = self.result["queries"] - self.queries_at_kill
        return (
            f"  {self.title:18} {self.result['queries']:,.0f} {self.unit}, {after:,.0f} of them after the kill "
            f"(sessions killed: {self.killed}; {self.loss}: {self.result['errors']:.0f})"
        )

    def row(self):
        rate = self.result["queries"] / self.result["seconds"]
        return (
            self.language,
            f"of {CONNECTIONS}" if self.pooled else "no",
            f"{rate:,.0f}",
            milliseconds(self.result["wait_p50_us"]),
            milliseconds(self.result["wait_p99_us"]),
            f"{self.result['errors']:.0f}",
            f"{self.connections:,}",
        )
