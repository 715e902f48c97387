#include "disturb.h"

#include "figures.h"
#include "ledger.h"
#include "loans.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect(int code, int also, const char *call) {
  if (code != 0 && code != also)
    complain(&ledger->refused, "%s answered %d: %s", call, code, pool_errmsg());
}

static void pause_and_resume(pool_t *pool, uint64_t *seed) {
  expect(pool_pause(pool), 0, "pool_pause");
  nap_us(random_below(seed, 100000));
  expect(pool_resume(pool), 0, "pool_resume");
}

static void drain_and_resume(pool_t *pool, uint64_t *seed) {
  expect(pool_drain(pool, (int)random_below(seed, 100)), POOL_ETIMEOUT, "pool_drain");
  expect(pool_resume(pool), 0, "pool_resume");
}

static void resize(pool_t *pool, uint64_t *seed) {
  int least = (int)random_below(seed, 3), most = LEAST_SIZE + (int)random_below(seed, MOST_SIZE - LEAST_SIZE + 1);
  expect(pool_resize(pool, least, most), 0, "pool_resize");
}

static void look(pool_t *pool) {
  pool_stats_t stats = {.size = sizeof stats};
  expect(pool_stats(pool, &stats), 0, "pool_stats");
  if (stats.internal_errors != 0 || stats.in_use < 0 || stats.idle < 0 || stats.waiting < 0)
    complain(&ledger->refused, "the statistics of a pool: %ld internal errors, %ld in use, %ld idle, %ld waiting",
             (long)stats.internal_errors, (long)stats.in_use, (long)stats.idle, (long)stats.waiting);
}

/* Closed while it connects, and while its connection is out. */
static void make_and_close(struct worker *worker) {
  pool_t *pool = pool_create("pool_min_size=1 pool_max_size=1", NULL);
  if (!pool) {
    complain(&ledger->refused, "pool_create: %s", pool_errmsg());
    return;
  }
  PGconn *conn = pool_get(pool, (int)random_below(&worker->seed, 60));
  expect(pool_close(pool), 0, "pool_close");
  if (conn)
    expect(pool_put(pool, conn), 0, "pool_put after pool_close");
}

/* With the named ones these are one less than fit into the first part of the library's table of pools. */
enum { PEAK_POOLS = 13, PEAK_WAITERS = 100, PEAK_MS = 5000 };

static void open_many_pools(void) {
  pool_t *made[PEAK_POOLS];
  for (int i = 0; i < PEAK_POOLS; i++) {
    made[i] = pool_create("pool_min_size=1 pool_max_size=1", NULL);
    expect(made[i] ? pool_wait(made[i], PEAK_MS) : POOL_EINVAL, 0, "pool_create at the peak");
  }
  for (int i = 0; i < PEAK_POOLS; i++)
    if (made[i])
      expect(pool_close(made[i]), 0, "pool_close at the peak");
}

static void wait_many_times(pool_t *pool) {
  pool_ticket_t tickets[PEAK_WAITERS];
  int count = 0;
  expect(pool_pause(pool), 0, "pool_pause at the peak");
  for (; count < PEAK_WAITERS && pool_get_start(pool, PEAK_MS, &tickets[count]) == 0; count++)
    continue;
  if (count < PEAK_WAITERS)
    complain(&ledger->refused, "waiter %d at the peak: %s", count + 1, pool_errmsg());
  while (count > 0)
    expect(pool_get_cancel(pool, tickets[--count]), 0, "pool_get_cancel at the peak");
  expect(pool_resume(pool), 0, "pool_resume at the peak");
}

void reach_peaks(void) {
  open_many_pools();
  for (int i = 0; i < POOLS; i++)
    wait_many_times(pools[i]);
}

void disturb_pools(struct worker *worker) {
  uint64_t *seed = &worker->seed;
  pool_t *pool = pools[random_below(seed, POOLS)];
  atomic_fetch_add(&ledger->actions, 1);
  switch (random_below(seed, 8)) {
    case 0: expect(pool_reconnect(pool), 0, "pool_reconnect"); break;
    case 1:
    case 2:
      resize(pool, seed);
      break;
    case 3: pause_and_resume(pool, seed); break;
    case 4: drain_and_resume(pool, seed); break;
    case 5: make_and_close(worker); break;
    default: look(pool); break;
  }
}

/* -------------------------------------------------------------------------------------------------- forks */

static void end_child(uint64_t *seed) {
  switch (random_below(seed, 4)) {
    case 0: exit(0);
    case 1: execl("/bin/true", "true", (char *)NULL); _exit(127);
    case 2:
      for (int i = 0; i < POOLS; i++)
        expect(pool_close(pools[i]), 0, "pool_close in a child");
      exit(0);
    default: _exit(0);
  }
}

static bool ended_well(pid_t child, uint32_t id) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return true;
  complain(&ledger->failed_children, "child %u ended with status 0x%x", id, (unsigned)status);
  return false;
}

/* The children of a disturber have numbers above all threads. */
static uint32_t child_id(void) { return 1000 + (uint32_t)atomic_fetch_add(&ledger->children, 1); }

static void start_child(struct worker *self, uint32_t id, uint64_t seed) {
  alarm(60); /* one that hangs ends, and is a failed child */
  worker_start(self, id, seed);
  for (int i = 0; i < POOLS; i++)
    expect(pool_resume(pools[i]), 0, "pool_resume in a child"); /* a pause holds in a child too */
  for (uint32_t loans = random_below(&self->seed, 6); loans > 0; loans--)
    loan_any(self);
}

static void live_as_grandchild(uint32_t id, uint64_t seed) {
  struct worker self;
  start_child(&self, id, seed);
  end_child(&self.seed);
}

static void live_as_child(uint32_t id, uint64_t seed) {
  struct worker self;
  start_child(&self, id, seed);
  if (one_in(&self.seed, 4)) {
    uint32_t grandchild_id = child_id();
    pid_t grandchild = fork();
    if (grandchild == 0)
      live_as_grandchild(grandchild_id, seed);
    if (grandchild > 0)
      ended_well(grandchild, grandchild_id);
    loan_any(&self);
  }
  end_child(&self.seed);
}

void disturb_by_fork(struct worker *worker) {
  uint32_t id = child_id();
  uint64_t seed = worker->seed;
  random_below(&worker->seed, 2);
  pid_t child = fork();
  if (child == 0)
    live_as_child(id, seed);
  if (child > 0)
    ended_well(child, id);
  else
    complain(&ledger->failed_children, "fork: %s", strerror(errno));
}
