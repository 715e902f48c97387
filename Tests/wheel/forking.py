"""Forks while another thread loads libpq for the first pool: the one that the loader finds takes long, and writes the
file argv[1] when it begins. Child and parent both use a pool; the child prints the version of its libpq."""

import os
import signal
import sys
import threading
import time
import traceback

import dbpool
from dbpool._libpq import Libpq


def use_a_pool():
    with dbpool.Pool("", max_size=1) as pool, pool.connection() as loan:
        Libpq().run(loan, "SELECT 1")


first = threading.Thread(target=use_a_pool)
first.start()
end = time.monotonic() + 10
while not os.path.exists(sys.argv[1]):
    assert time.monotonic() < end
    time.sleep(0.001)
child = os.fork()
if child == 0:
    signal.alarm(20)
    status = 1
    try:
        use_a_pool()
        print(Libpq().version, flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
first.join(20)
assert not first.is_alive()
