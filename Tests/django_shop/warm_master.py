"""For gunicorn: the process that forks the workers has used the database before."""

control_socket_disable = True


def when_ready(server):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server.log.warning("session of the master: %d", cursor.fetchone()[0])
    connection.close()
