"""gunicorn with two forked processes of four threads each, MAX_CONNS 3, sixteen customers, a server that restarts."""

import os
import time
from pathlib import Path

import pytest
from conftest import SETTINGS, until
from shop_load import Load
from watch import SessionWatch

WORKERS, THREADS, CONNECTIONS, CLIENTS = 2, 4, 3, 16
SESSIONS = WORKERS * CONNECTIONS
GRACE = 3  # gunicorn's graceful timeout, in seconds
SOON = 10  # seconds: on a busy machine gunicorn alone takes some
both_drivers = pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])


def children(process):
    return {int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()}


def processes(load):
    return set().union(*(client.processes for client in load.clients))


def work(load, answers):
    """Until that many more answers have come."""
    wanted = load.answers() + answers
    until(lambda: load.answers() >= wanted or load.stopping.is_set(), f"{answers} answers")


def check_books(site, load):
    """No piece and no cent is lost or made, and what a customer was told is so."""
    orders, bought = site.orders(), load.bought()
    assert site.sold() == load.stock
    assert all(total == of_lines for _, total, of_lines in orders.values())
    assert {tag: tuple(orders[tag][:2]) for tag in bought if tag in orders} == bought
    # Only the answer to its COMMIT was lost.
    unknown = len(orders) - len(bought)
    assert 0 <= unknown <= sum(failure.page == "buy" for failure in load.failures())


def explain(failures, server):
    return "\n".join([*map(str, failures), server.log()[-3000:]])


@both_drivers
@pytest.mark.parametrize(("mode", "outage"), [("fast", 0), ("immediate", 2)])
def test_a_restart_costs_no_more_than_the_requests_under_way(site, capsys, driver, mode, outage):
    with site.serve() as server, SessionWatch(site.server) as watch:
        with Load(server.address, CLIENTS) as load:
            work(load, 300)
            until(lambda: len(processes(load)) == WORKERS, "answers of both workers")
            workers, before = children(server.process), load.answers()
            left, in_flight = time.monotonic(), load.in_flight()
            site.cluster.stop(mode)
            time.sleep(outage)
            site.cluster.start()
            back = time.monotonic()
            work(load, 1)
            first = time.monotonic() - back
            work(load, 300)
        assert children(server.process) == workers
        start = time.monotonic()
        code = server.stop()
        took = time.monotonic() - start
        failures = load.failures()
        with capsys.disabled():
            print(
                f"\n{driver}, {mode} restart: {load.answers()} answers ({before} before) in {load.seconds:.1f} s, "
                f"{sum(client.sold_out for client in load.clients)} sold out; {back - left:.2f} s without a server, "
                f"{in_flight} requests under way, {len(failures)} failed, first answer after {first:.2f} s; "
                f"at most {watch.most} sessions in {watch.looks} looks, {len(watch.seen)} in all; "
                f"SIGTERM took {took:.2f} s"
            )
        assert load.wrong() == [], explain(load.wrong(), server)
        assert len(failures) <= min(in_flight, SESSIONS), explain(failures, server)
        outside = [failure for failure in failures if failure.end < left or failure.start > back]
        assert outside == [], explain(outside, server)
        assert 1 <= watch.most <= SESSIONS, "\n".join(map(str, watch.largest))
        assert len(watch.seen) <= 2 * SESSIONS  # those that the server ended, and as many after it was back
        assert (code, took < SOON) == (0, True), server.log()
    check_books(site, load)


@pytest.mark.skipif(SETTINGS != "django_shop.settings", reason="only of the pool")
def test_the_limit_holds_while_connections_are_replaced(site, capsys):
    with site.serve(settings="short_lives") as server, SessionWatch(site.server) as watch:
        with Load(server.address, CLIENTS) as load:
            until(lambda: len(watch.seen) > 3 * SESSIONS or load.stopping.is_set(), "connections to be replaced")
        assert (load.wrong(), load.failures()) == ([], []), server.log()
        assert watch.most <= SESSIONS, "\n".join(map(str, watch.largest))
        with capsys.disabled():
            print(f"\nreplaced: {len(watch.seen)} sessions in all, at most {watch.most} in {watch.looks} looks")
    check_books(site, load)


@both_drivers
def test_processes_leave_the_sessions_of_the_one_that_forked_them_alone(site, driver):
    with site.serve("--config", str(Path(__file__).with_name("warm_master.py"))) as server:
        with Load(server.address, CLIENTS) as load:
            until(lambda: len(processes(load)) == WORKERS, "answers of both workers")
            master = int(server.log().split("session of the master: ")[1].split()[0])
            assert master in site.observer.sessions()
            first = children(server.process)
            os.kill(min(first), 15)
            until(lambda: len(processes(load) - first) == 1 or load.stopping.is_set(), "answers of a new worker")
            work(load, 100)
            sessions = site.observer.sessions()
        assert load.wrong() == [], explain(load.wrong(), server)
        # gunicorn cuts the connections to clients that the ended process had; the database has no part in it.
        broken = [failure for failure in load.failures() if " 500 " in failure.reason]
        assert broken == [], explain(broken, server)
        assert master in sessions
        assert len(sessions) <= SESSIONS + 1
        assert server.stop() == 0
    until(lambda: not site.observer.sessions(), "the end of all sessions")
    check_books(site, load)


def lock_out(site):
    """Nobody gets at the stock until commit or rollback: each session that asks for it waits."""
    site.observer.ask("BEGIN")
    site.observer.ask("LOCK TABLE shop_stock")


def waiting_sessions(site):
    rows = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'django_shop' AND wait_event_type = 'Lock'"
    return len(site.observer.ask(rows))


def stop_and_time(server):
    start = time.monotonic()
    assert server.stop() == 0, server.log()
    return time.monotonic() - start


def threads_are_busy(site, load):
    """Sixteen requests, so in one process at least all threads have one: one waits for the server, the others for its
    connection. (The other process may have accepted none.)"""
    return waiting_sessions(site) >= 1 and load.in_flight() == CLIENTS


def test_sigterm_lets_those_finish_who_wait_for_a_connection(site, capsys):
    with site.serve("--graceful-timeout", "20", connections=1) as server:
        with Load(server.address, CLIENTS) as load:
            work(load, 10)
            lock_out(site)
            until(lambda: threads_are_busy(site, load), "all threads to wait")
            load.stopping.set()
            server.process.terminate()
            site.observer.ask("ROLLBACK")
            took = stop_and_time(server)
        assert load.wrong() == [], explain(load.wrong(), server)
        assert [failure for failure in load.failures() if " 500 " in failure.reason] == [], server.log()
        assert took < SOON
        assert "SIGKILL" not in server.log()
        with capsys.disabled():
            cut = len(load.failures())
            print(f"\nSIGTERM, then a connection comes free: ended after {took:.2f} s; {cut} of {CLIENTS} not accepted")
    check_books(site, load)


@pytest.mark.parametrize("cause", ["all in use", "no server"])
def test_sigterm_ends_processes_whose_threads_wait_for_a_connection(site, capsys, cause):
    with site.serve("--graceful-timeout", str(GRACE), connections=1) as server:
        with Load(server.address, CLIENTS) as load:
            work(load, 10)
            if cause == "no server":
                site.cluster.stop()
                until(lambda: load.in_flight() == CLIENTS, "all to wait")
            else:
                lock_out(site)
                until(lambda: threads_are_busy(site, load), "all threads to wait")
            load.stopping.set()
            took = stop_and_time(server)
            with capsys.disabled():
                print(
                    f"\nSIGTERM while all threads wait, {cause}: ended after {took:.2f} s; graceful timeout {GRACE} s"
                )
            assert took < GRACE + SOON
            if cause == "no server":
                site.cluster.start()
            else:
                site.observer.ask("ROLLBACK")
        until(lambda: not site.observer.sessions(), "the end of all sessions")
    check_books(site, load)
