/* Server-side truth: pg_stat_activity never shows more sessions of a pool than max_size. */
#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Looks at the server all the time, over a connection of its own. */
struct monitor {
  pthread_t thread;
  char name[POOL_NAME_LIMIT + 1];
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

static void start_monitor(struct monitor *monitor, const char *name) {
  memset(monitor, 0, sizeof *monitor);
  snprintf(monitor->name, sizeof monitor->name, "%s", name);
  CHECK_INT(pthread_create(&monitor->thread, NULL, look, monitor), ==, 0);
  WAIT_FOR(5000, atomic_load(&monitor->looks) > 0);
}

static void check_monitor(struct monitor *monitor, int max_size) {
  atomic_store(&monitor->stop, true);
  pthread_join(monitor->thread, NULL);
  printf("    at most %d of %d sessions in %ld looks\n", monitor->most, max_size, atomic_load(&monitor->looks));
  CHECK_INT(monitor->most, <=, max_size);
  CHECK_INT(atomic_load(&monitor->looks), >, 10);
}

struct burst {
  pool_t *pool;
  pthread_barrier_t *gate;
  int64_t took;
};

static void *get_at_once(void *argument) {
  struct burst *burst = argument;
  pthread_barrier_wait(burst->gate);
  int64_t start = now_ms();
  PGconn *conn = pool_get(burst->pool, slow(20000));
  burst->took = now_ms() - start;
  if (CHECK(conn != NULL)) {
    CHECK(works(conn));
    nap_ms(10); /* held for a moment, so that the pool has reason to grow to its limit */
    CHECK_INT(pool_put(burst->pool, conn), ==, 0);
  }
  return NULL;
}

static void check_burst(void) {
  enum { THREADS = 100, SIZE = 20 };
  pool_options_t options = options_sized(0, SIZE);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  struct monitor monitor;
  start_monitor(&monitor, options.name);
  pthread_barrier_t gate;
  pthread_barrier_init(&gate, NULL, THREADS);
  struct burst bursts[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    bursts[i] = (struct burst){pool, &gate, 0};
    REQUIRE_INT(pthread_create(&threads[i], NULL, get_at_once, &bursts[i]), ==, 0);
  }
  int64_t longest = 0;
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    longest = bursts[i].took > longest ? bursts[i].took : longest;
  }
  printf("    all 100 served in %lld ms, %lld sessions opened\n", (long long)longest, (long long)STAT(pool, opened));
  CHECK_INT(longest, <=, slow(5000));
  CHECK_INT(STAT(pool, opened), <=, SIZE);
  check_monitor(&monitor, SIZE);
  pthread_barrier_destroy(&gate);
  close_whole(pool);
}

TEST_LIMIT(a_burst_of_a_hundred_opens_no_more_than_max_size, 60) {
  for (int round = 0; round < 5; round++)
    check_burst();
}

struct churner {
  pool_t *pool;
  atomic_bool stop;
};

static void *discard_all_the_time(void *argument) {
  struct churner *churner = argument;
  unsigned seed = 1;
  while (!atomic_load(&churner->stop)) {
    void *conn = pool_get(churner->pool, slow(10000));
    if (!CHECK(conn != NULL))
      break;
    bool bad = rand_r(&seed) % 4 == 0;
    CHECK_INT(bad ? pool_discard(churner->pool, conn) : pool_put(churner->pool, conn), ==, 0);
    nap_ms(2);
  }
  return NULL;
}

static void churn(int ms, int threads, int discarders, bool reconnect, int size) {
  pool_options_t options = options_sized(size, size);
  options.max_lifetime_ms = 1000;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  struct monitor monitor;
  start_monitor(&monitor, options.name);
  struct churner churner = {.pool = pool};
  pthread_t extra[16];
  struct load *load = start_load(pool, threads, 500);
  for (int i = 0; i < discarders; i++)
    pthread_create(&extra[i], NULL, discard_all_the_time, &churner);
  for (int64_t end = now_ms() + ms; now_ms() < end; nap_ms(100))
    if (reconnect)
      CHECK_INT(pool_reconnect(pool), ==, 0);
  atomic_store(&churner.stop, true);
  for (int i = 0; i < discarders; i++)
    pthread_join(extra[i], NULL);
  struct load_result result = stop_load(load);
  CHECK_INT(result.errors, ==, 0);
  printf("    %ld loans, %lld sessions opened\n", result.loans, (long long)STAT(pool, opened));
  CHECK_INT(STAT(pool, opened), >, size);
  check_monitor(&monitor, size);
  close_whole(pool);
}

TEST_LIMIT(replacing_the_old_at_the_limit_stays_within_it, 60) { churn(3000, 12, 0, false, 5); }
TEST_LIMIT(discards_at_the_limit_stay_within_it, 60) { churn(3000, 6, 6, false, 5); }
TEST_LIMIT(reconnecting_at_full_load_stays_within_it, 60) { churn(3000, 12, 0, true, 5); }
LONG_TEST(churn_of_every_kind_for_half_a_minute_stays_within_it, 120) { churn(30000, 16, 8, true, 10); }

TEST(sessions_killed_at_the_limit_stay_within_it) {
  enum { SIZE = 6 };
  pool_options_t options = options_sized(SIZE, SIZE);
  options.check = POOL_CHECK_SOCKET;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  struct monitor monitor;
  start_monitor(&monitor, options.name);
  struct load *load = start_load(pool, 10, 500);
  for (int i = 0; i < 10; i++) {
    sql_run(observer(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '%s'", options.name);
    nap_ms(100);
  }
  stop_load(load);
  WAIT_FOR(5000, STAT(pool, idle) == SIZE);
  check_monitor(&monitor, SIZE);
  close_whole(pool);
}
