"""What the server says about the sessions of the shop, seen from a session of its own."""

import threading

import psycopg2

LOOK_SECONDS = 0.02
SESSIONS = (
    "SELECT pid, backend_start::time::text, coalesce(state, '-'), coalesce(state_change::time::text, '-'),"
    " client_port, now()::time::text, left(query, 40)"
    " FROM pg_stat_activity WHERE application_name = 'django_shop' ORDER BY backend_start"
)


class Observer:
    def __init__(self, environment):
        self.parameters = {
            "host": environment["PGHOST"],
            "port": environment["PGPORT"],
            "user": environment["PGUSER"],
            "password": environment["PGPASSWORD"],
            "dbname": environment["PGDATABASE"],
            "application_name": "observer",
            "connect_timeout": 5,
        }
        self.connection = None

    def ask(self, query):
        """All rows; None for a statement that has none. Raises psycopg2.OperationalError while the server is away."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(**self.parameters)
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall() if cursor.description else None
        except psycopg2.OperationalError:
            self.close()
            raise

    def sessions(self):
        return {pid for pid, *_ in self.ask(SESSIONS)}

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class SessionWatch(threading.Thread):
    """Looks all the time: how many sessions at most, how many in all, how often it looked."""

    def __init__(self, environment):
        super().__init__(daemon=True)
        self.observer = Observer(environment)
        self.stopping = threading.Event()
        self.largest, self.seen, self.looks = [], set(), 0

    def run(self):
        while not self.stopping.wait(LOOK_SECONDS):
            try:
                sessions = self.observer.ask(SESSIONS)
            except psycopg2.OperationalError:  # the server is away
                continue
            self.looks += 1
            self.largest = max(self.largest, sessions, key=len)
            self.seen |= {pid for pid, *_ in sessions}
        self.observer.close()

    @property
    def most(self):
        return len(self.largest)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()
