/* The end of the program at any moment: no crash, and soon. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The argument: microseconds from the start of the fill to exit(). */
HELPER(exit_during_a_fill) {
  pool_t *pool = pool_create("pool_min_size=6 pool_max_size=6 sslmode=require", NULL);
  if (!pool)
    _exit(3);
  int64_t end = now_us() + atol(helper_argument());
  while (now_us() < end)
    sched_yield();
  exit_and_tell(0);
}

HELPER(exit_with_loans_out) {
  pool_t *pool = pool_create("pool_min_size=3 pool_max_size=3 sslmode=require", NULL);
  void *first = pool ? pool_get(pool, slow(5000)) : NULL, *second = pool ? pool_get(pool, slow(5000)) : NULL;
  exit_and_tell(first && second ? 0 : 3);
}

static void *wait_for_ever(void *pool) {
  pool_get(pool, POOL_TIMEOUT_INFINITE);
  return NULL;
}

HELPER(exit_with_waiters) {
  pool_t *pool = pool_create("pool_max_size=1", NULL);
  void *conn = pool ? pool_get(pool, slow(5000)) : NULL;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    pthread_create(&threads[i], NULL, wait_for_ever, pool);
  pool_stats_t stats = {.size = sizeof stats};
  for (int64_t end = now_ms() + slow(5000); now_ms() < end && stats.waiting < 4; nap_ms(1))
    if (pool_stats(pool, &stats) != 0)
      exit(4);
  exit_and_tell(conn ? 0 : 3);
}

/* Full use of every kind, and exit() in the middle of it. */
HELPER(exit_under_load) {
  pool_t *pool = pool_create("pool_min_size=2 pool_max_size=4 pool_max_lifetime=50ms pool_reset=discard_all sslmode=require", NULL);
  if (!pool)
    _exit(3);
  start_load(pool, 8, 100);
  int64_t end = now_us() + atol(helper_argument());
  while (now_us() < end)
    nap_ms(1);
  exit_and_tell(0);
}

HELPER(exit_beside_a_silent_server) {
  pool_t *pool = pool_create(helper_argument(), NULL);
  pool_stats_t stats = {.size = sizeof stats};
  for (int64_t end = now_ms() + slow(5000); pool && now_ms() < end && stats.connecting == 0; nap_ms(1))
    if (pool_stats(pool, &stats) != 0)
      exit(4);
  exit_and_tell(pool ? 0 : 3);
}

HELPER(exit_right_after_close) {
  pool_t *pool = pool_create("pool_min_size=4 pool_max_size=4 sslmode=require", NULL);
  if (!pool || pool_wait(pool, slow(5000)) != 0 || pool_close(pool) != 0)
    exit(3);
  exit_and_tell(0);
}

TEST_LIMIT(two_hundred_exits_during_a_tls_fill_crash_never, 150) {
  REQUIRE(server_with_tls());
  unsigned seed = 20240917;
  for (int i = 0; i < scaled(200); i++) {
    char after[32];
    snprintf(after, sizeof after, "%d", (int)(rand_r(&seed) % 120000));
    if (!check_exit("exit_during_a_fill", after))
      break;
  }
}

TEST_LIMIT(exits_under_load_crash_never, 60) {
  REQUIRE(server_with_tls());
  unsigned seed = 7;
  for (int i = 0; i < scaled(30); i++) {
    char after[32];
    snprintf(after, sizeof after, "%d", (int)(rand_r(&seed) % 200000));
    if (!check_exit("exit_under_load", after))
      break;
  }
}

TEST(an_exit_with_loans_out_is_quiet) {
  REQUIRE(server_with_tls());
  check_exit("exit_with_loans_out", "");
}

TEST(an_exit_with_waiters_is_quiet) { check_exit("exit_with_waiters", ""); }

TEST(an_exit_right_after_close_is_quiet) {
  REQUIRE(server_with_tls());
  for (int i = 0; i < scaled(10); i++)
    check_exit("exit_right_after_close", "");
}

TEST(an_exit_beside_a_silent_server_takes_at_most_a_second) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d pool_min_size=6 pool_connect_timeout=60s", proxy_port(proxy));
  check_exit("exit_beside_a_silent_server", conninfo);
  proxy_stop(proxy);
}
