/* Never more than max_size, as the host and as the server count; many threads; nothing piles up. */
#include "host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Looks at the server all the time, over a connection of its own. */
struct monitor {
  pthread_t thread;
  const char *name;
  atomic_bool stop;
  int most;
  atomic_long looks;
};

static void *look(void *argument) {
  struct monitor *monitor = argument;
  PGconn *conn = connect_plainly("application_name=monitor sslmode=disable");
  while (!atomic_load(&monitor->stop)) {
    int now = (int)sql_number(conn, "select count(*) from pg_stat_activity where application_name = '%s'", monitor->name);
    monitor->most = now > monitor->most ? now : monitor->most;
    atomic_fetch_add(&monitor->looks, 1);
    if (!CHECK_INT(now, >=, 0))
      break;
  }
  PQfinish(conn);
  return NULL;
}

static void start_monitor(struct monitor *monitor, struct host *host) {
  memset(monitor, 0, sizeof *monitor);
  monitor->name = host->name;
  CHECK_INT(pthread_create(&monitor->thread, NULL, look, monitor), ==, 0);
  WAIT_FOR(5000, atomic_load(&monitor->looks) > 0);
}

/* Two views: objects that the host had open at once, and sessions that the server showed. */
static void check_limit(struct monitor *monitor, struct host *host, int max_size) {
  atomic_store(&monitor->stop, true);
  pthread_join(monitor->thread, NULL);
  printf("    at most %d sessions in %ld looks, %d objects; %lld opened\n", monitor->most, atomic_load(&monitor->looks),
         atomic_load(&host->most_open), (long long)STAT(host->pool, opened));
  CHECK_INT(monitor->most, <=, max_size);
  CHECK_INT(atomic_load(&monitor->looks), >, 3);
  CHECK_INT(atomic_load(&host->most_open), <=, max_size);
}

struct burst {
  struct host *host;
  pthread_barrier_t *gate;
};

static void *get_at_once(void *argument) {
  struct burst *burst = argument;
  pthread_barrier_wait(burst->gate);
  void *token = host_get_working(burst->host, slow(20000));
  if (token) {
    nap_ms(50); /* held for a moment, so that there is reason to open as many as there may be */
    CHECK_INT(host_put(burst->host, token), ==, 0);
  }
  return NULL;
}

TEST_LIMIT(a_burst_opens_no_more_than_max_size, 60) {
  enum { THREADS = 60, SIZE = 8 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  struct monitor monitor;
  start_monitor(&monitor, host);
  pthread_barrier_t gate;
  pthread_barrier_init(&gate, NULL, THREADS);
  struct burst burst = {host, &gate};
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    REQUIRE_INT(pthread_create(&threads[i], NULL, get_at_once, &burst), ==, 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(STAT(host->pool, opened), <=, SIZE);
  CHECK_INT(STAT(host->pool, gets), ==, THREADS);
  check_limit(&monitor, host, SIZE);
  pthread_barrier_destroy(&gate);
  host_end(host);
}

static void *borrow_once(void *argument) {
  struct host *host = argument;
  void *token = host_get(host, POOL_TIMEOUT_INFINITE);
  if (CHECK(token != NULL))
    CHECK_INT(host_put(host, token), ==, 0);
  return NULL;
}

TEST_LIMIT(a_thousand_threads_share_two_slots, 60) {
  int threads = scaled(1000);
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  pthread_t *all = calloc((size_t)threads, sizeof *all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  CHECK_INT(pool_pause(host->pool), ==, 0);
  for (int i = 0; i < threads; i++)
    REQUIRE_INT(pthread_create(&all[i], &attributes, borrow_once, host), ==, 0);
  WAIT_FOR(20000, STAT(host->pool, waiting) == threads);
  CHECK_INT(pool_resume(host->pool), ==, 0);
  for (int i = 0; i < threads; i++)
    pthread_join(all[i], NULL);
  pthread_attr_destroy(&attributes);
  CHECK_INT(STAT(host->pool, gets), ==, threads);
  CHECK_INT(STAT(host->pool, puts), ==, threads);
  CHECK_INT(STAT(host->pool, opened), <=, 2);
  CHECK_INT(atomic_load(&host->most_open), <=, 2);
  free(all);
  host_end(host);
}

/* ---------------------------------------------------------------------------------------------- renewal */

struct helper {
  struct host *host;
  atomic_bool stop;
};

static void *keep_collecting(void *argument) {
  struct helper *helper = argument;
  while (!atomic_load(&helper->stop))
    CHECK_INT(host_collect(helper->host, 50), >=, 0);
  return NULL;
}

static void *keep_discarding(void *argument) {
  struct helper *helper = argument;
  for (unsigned seed = 1; !atomic_load(&helper->stop); nap_ms(2)) {
    void *token = host_get(helper->host, slow(10000));
    if (!CHECK(token != NULL))
      break;
    CHECK_INT(rand_r(&seed) % 4 == 0 ? host_discard(helper->host, token) : host_put(helper->host, token), >=, 0);
  }
  return NULL;
}

enum { COLLECT = 1, DISCARD = 2, RECONNECT = 4, KILL = 8 };

static void churn(int ms, int size, int kinds) {
  pool_options_t options = options_sized(0, size);
  options.max_lifetime_ms = 1000;
  options.check = kinds & KILL ? POOL_CHECK_SOCKET : POOL_CHECK_WATCH;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  struct monitor monitor;
  start_monitor(&monitor, host);
  struct helper helper = {.host = host};
  pthread_t collector, discarder;
  if (kinds & COLLECT)
    pthread_create(&collector, NULL, keep_collecting, &helper);
  if (kinds & DISCARD)
    pthread_create(&discarder, NULL, keep_discarding, &helper);
  struct host_load *load = host_load_start(host, 2 * size + 2, 500);
  for (int64_t end = now_ms() + ms; now_ms() < end || STAT(host->pool, opened) <= size; nap_ms(100)) {
    if (kinds & RECONNECT)
      CHECK_INT(pool_reconnect(host->pool), ==, 0);
    if (kinds & KILL)
      sql_run(observer(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '%s'", host->name);
  }
  atomic_store(&helper.stop, true);
  struct load_result result = host_load_stop(load);
  if (kinds & COLLECT)
    pthread_join(collector, NULL);
  if (kinds & DISCARD)
    pthread_join(discarder, NULL);
  CHECK_INT(result.errors, ==, 0);
  CHECK_INT(result.fewest, >, 0);
  check_limit(&monitor, host, size);
  host_end(host);
}

TEST_LIMIT(renewal_by_age_under_load_stays_within_the_limit, 60) { churn(4000, 4, 0); }
TEST_LIMIT(renewal_with_a_collector_stays_within_the_limit, 60) { churn(3000, 4, COLLECT); }
TEST_LIMIT(discards_under_load_stay_within_the_limit, 60) { churn(2000, 4, DISCARD); }
TEST_LIMIT(reconnects_under_load_stay_within_the_limit, 60) { churn(2000, 4, RECONNECT); }
TEST_LIMIT(killed_sessions_under_load_stay_within_the_limit, 60) { churn(2000, 4, KILL | COLLECT); }
LONG_TEST(hosted_churn_of_every_kind_stays_within_the_limit, 120) { churn(30000, 8, COLLECT | DISCARD | RECONNECT | KILL); }

static void *thaw_later(void *pid) {
  nap_ms(300);
  CHECK_INT(kill(*(int *)pid, SIGCONT), ==, 0);
  return NULL;
}

/* The old session was closed and the new one opened at once, so a slow server had both. */
TEST(a_session_that_is_replaced_counts_until_the_server_has_ended_it) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token);
  int pid = host_pid(host, token);
  CHECK_INT(host_put(host, token), ==, 0);
  struct monitor monitor;
  start_monitor(&monitor, host);
  REQUIRE_INT(kill(pid, SIGSTOP), ==, 0);
  pthread_t thaw;
  pthread_create(&thaw, NULL, thaw_later, &pid);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  token = host_get_working(host, slow(5000));
  pthread_join(thaw, NULL);
  REQUIRE(token);
  CHECK_INT(host_pid(host, token), !=, pid);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  check_limit(&monitor, host, 1);
  host_end(host);
}

TEST_LIMIT(resizing_under_load_serves_everybody, 60) {
  struct host *host = host_start(0, 4);
  REQUIRE(host);
  struct helper helper = {.host = host};
  pthread_t collector;
  pthread_create(&collector, NULL, keep_collecting, &helper);
  struct host_load *load = host_load_start(host, 12, 200);
  for (int i = 0; i < 200; i++) {
    CHECK_INT(pool_resize(host->pool, i % 2, 1 + i * 7 % 9), ==, 0);
    nap_ms(5);
  }
  CHECK_INT(host_load_stop(load).errors, ==, 0);
  CHECK_INT(pool_resize(host->pool, 0, 2), ==, 0);
  WAIT_FOR(3000, STAT(host->pool, total) <= 2);
  WAIT_FOR(3000, sessions(host->name) <= 2);
  atomic_store(&helper.stop, true);
  pthread_join(collector, NULL);
  host_end(host);
}

/* --------------------------------------------------------------------------------------------- no trace */

static void live_once(const pool_options_t *options) {
  pool_t *pool = pool_create_hosted(options);
  REQUIRE(pool);
  void *token = pool_get(pool, 0);
  CHECK(token != NULL);
  CHECK_INT(pool_fail(pool, token, NULL, "refused"), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST_LIMIT(a_hundred_thousand_hosted_pools_leave_no_trace, 120) {
  pool_options_t options = options_sized(0, 4);
  for (int i = 0; i < 200; i++)
    live_once(&options);
  int descriptors = open_descriptors(), threads = running_threads();
  long memory = resident_kib();
  for (int i = 0; i < scaled(100000); i++)
    live_once(&options);
  WAIT_FOR(3000, running_threads() <= threads);
  WAIT_FOR(3000, open_descriptors() <= descriptors);
  if (!is_slow_run()) /* a checked or sanitized program keeps books of its own */
    CHECK_INT(resident_kib() - memory, <, 1024);
}

TEST_LIMIT(hosted_pools_with_objects_leave_no_trace, 120) {
  int descriptors = 0, threads = 0;
  long memory = 0;
  for (int i = -10; i < scaled(100); i++) {
    if (i == 0) {
      observer();
      descriptors = open_descriptors(); /* a duplicate or two of the last pool may still be among them */
      memory = resident_kib();
      threads = running_threads();
    }
    struct host *host = host_start(0, 2);
    REQUIRE(host);
    host_fill(host, 2);
    host_end(host);
  }
  WAIT_FOR(3000, open_descriptors() <= descriptors);
  CHECK_INT(running_threads(), <=, threads);
  if (!is_slow_run())
    CHECK_INT(resident_kib() - memory, <, 1024);
}

TEST(hosted_loans_cost_no_descriptor_and_no_memory) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  host_fill(host, 2);
  int descriptors = open_descriptors();
  long memory = resident_kib();
  for (int i = 0; i < scaled(1000000); i++) {
    void *token = pool_get(host->pool, 0);
    if (!token || POOL_TOKEN_FLAGS(token) != 0 || pool_put(host->pool, token) != 0) {
      CHECK_INT(pool_errcode(), ==, POOL_OK);
      break;
    }
  }
  CHECK_INT(open_descriptors(), ==, descriptors);
  if (!is_slow_run())
    CHECK_INT(resident_kib() - memory, <, 256);
  host_end(host);
}
