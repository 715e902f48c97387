"""Accounts behind Flask, on a pool of psycopg2 connections: each request that needs one borrows one until its end.

    flask --app examples/flask_accounts run
    curl http://127.0.0.1:5000/accounts/7
    curl -d unit=1 -d first=7 -d amount=30 http://127.0.0.1:5000/transfers
    curl http://127.0.0.1:5000/pool

Needs Flask, psycopg2 and the package of this pool; the database is that of the environment (PGHOST, PGDATABASE, ...),
with the tables of schema.sql. With `from psycopg2 import pool` it is the same program without what is better
here: waiting for a free connection, and sessions that are replaced when the server ends them.
"""

import psycopg2
from dbpool import psycopg2_pool as pool  # instead of: from psycopg2 import pool
from flask import Flask, abort, g, jsonify, request

app = Flask(__name__)
connections = pool.ThreadedConnectionPool(0, 4, "application_name=flask_accounts", timeout=5)

TRANSFER = """
    WITH booked AS (INSERT INTO ledger VALUES (%(unit)s, %(amount)s) ON CONFLICT DO NOTHING RETURNING amount),
    locked AS (SELECT id FROM accounts WHERE id IN (%(first)s, %(first)s + 1) ORDER BY id FOR UPDATE)
    UPDATE accounts SET balance = balance + CASE accounts.id WHEN %(first)s THEN -amount ELSE amount END
    FROM booked, locked WHERE accounts.id = locked.id
"""


def borrowed():
    """The connection of this request."""
    if "connection" not in g:
        g.connection = connections.getconn()
    return g.connection


@app.teardown_appcontext
def give_back(_error):
    """Whatever became of the request: a transaction that is open still is rolled back."""
    if "connection" in g:
        connections.putconn(g.pop("connection"))


@app.errorhandler(pool.PoolError)
@app.errorhandler(psycopg2.OperationalError)
@app.errorhandler(psycopg2.InterfaceError)  # `with conn` finds the session ended when it rolls back
def try_later(error):
    """All connections are in use, the server is down or has ended the session: not the caller's fault."""
    return jsonify(error=str(error).strip()), 503


@app.get("/accounts/<int:account>")
def balance(account):
    with borrowed() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT balance FROM accounts WHERE id = %s", (account,))
        row = cursor.fetchone() or abort(404)
    return jsonify(account=account, balance=row[0])


@app.post("/transfers")
def transfer():
    """Moves money to the next account; done twice, `unit` is booked once."""
    values = {name: int(request.form[name]) for name in ("unit", "first", "amount")}
    with borrowed() as conn, conn.cursor() as cursor:  # commits, or rolls back when something is raised
        cursor.execute(TRANSFER, values)
        booked = cursor.rowcount == 2
        if cursor.rowcount == 1:
            abort(404)  # there is no second account
    return jsonify(unit=values["unit"], booked=booked)


@app.get("/pool")
def statistics():
    stats = connections.stats()
    return jsonify(gets=stats.gets, in_use=stats.in_use, idle=stats.idle, opened=stats.opened, waits=stats.waits)
