from django.db.backends.postgresql import base

_idle = []


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params):
        try:
            return _idle.pop()
        except IndexError:
            return super().get_new_connection(conn_params)

    def init_connection_state(self):
        """The last borrower has left it as it was."""

    def _close(self):
        _idle.append(self.connection)
