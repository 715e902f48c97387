/* Statistics: what they count, and their struct from other releases. */
#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

TEST(the_gauges_follow_a_loan) {
  pool_t *pool = open_pool(2, 5);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pool_stats_t stats = {.size = sizeof stats};
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(stats.min_size, ==, 2);
  CHECK_INT(stats.max_size, ==, 5);
  CHECK_INT(stats.total, ==, 2);
  CHECK_INT(stats.idle, ==, 2);
  CHECK_INT(stats.in_use, ==, 0);
  CHECK_INT(stats.waiting, ==, 0);
  CHECK_INT(stats.paused, ==, 0);
  CHECK_INT(stats.opened, ==, 2);
  CHECK_INT(stats.gets, ==, 0);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(stats.idle, ==, 1);
  CHECK_INT(stats.in_use, ==, 1);
  CHECK_INT(stats.gets, ==, 1);
  CHECK_INT(stats.puts, ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(stats.puts, ==, 1);
  CHECK_INT(stats.waits, ==, 0);
  close_whole(pool);
}

TEST(each_event_has_its_counter) {
  pool_options_t options = options_sized(0, 1);
  options.max_waiting = 1;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK(pool_get(pool, 20) == NULL);
  CHECK_INT(STAT(pool, timeouts), ==, 1);
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get(pool, 20) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EFULL);
  CHECK_INT(STAT(pool, rejected), ==, 1);
  CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  CHECK_INT(STAT(pool, cancels), ==, 1);
  CHECK(sql_run(conn, "begin"));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  WAIT_FOR(2000, STAT(pool, idle) == 1);
  CHECK_INT(STAT(pool, resets), ==, 1);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_discard(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, discarded), ==, 1);
  CHECK_INT(STAT(pool, gets), ==, STAT(pool, puts));
  CHECK_INT(STAT(pool, gets), ==, 2);
  close_whole(pool);
}

static void *hold_for_50_ms(void *argument) {
  nap_ms(50);
  return pool_put(((void **)argument)[0], ((void **)argument)[1]) == 0 ? argument : NULL;
}

TEST(times_are_measured) {
  pool_options_t options = options_sized(0, 1);
  options.exact_times = 1;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  int64_t start = now_us();
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  void *both[2] = {pool, conn};
  pthread_t thread;
  pthread_create(&thread, NULL, hold_for_50_ms, both);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pthread_join(thread, NULL);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  int64_t passed = now_us() - start;
  pool_stats_t stats = {.size = sizeof stats};
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(stats.connect_us, >, 0);
  CHECK_INT(stats.connect_us, <, passed);
  CHECK_INT(stats.waits, >=, 1);
  CHECK_INT(stats.wait_us, >=, 30000);
  CHECK_INT(stats.wait_us, <, passed);
  CHECK_INT(stats.wait_max_us, >=, 30000);
  CHECK_INT(stats.wait_max_us, <=, stats.wait_us);
  CHECK_INT(stats.use_us, >=, 45000);
  CHECK_INT(stats.use_us, <, passed);
  close_whole(pool);
}

/* Each loan is shorter than the step of the coarse clock; the sum of many is right nevertheless. */
TEST(coarse_times_of_many_short_loans_add_up) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  int64_t held = 0;
  while (held < 600000) {
    void *conn = pool_get(pool, slow(5000));
    REQUIRE(conn != NULL);
    int64_t start = now_us();
    nap_ms(2);
    held += now_us() - start;
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(STAT(pool, use_us), >=, held / 2);
  CHECK_INT(STAT(pool, use_us), <=, held * 3 / 2);
  close_whole(pool);
}

TEST(a_shorter_struct_gets_its_part) {
  pool_t *pool = open_pool(0, 7);
  REQUIRE(pool);
  pool_stats_t stats;
  memset(&stats, 0xaa, sizeof stats);
  stats.size = offsetof(pool_stats_t, total);
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(stats.max_size, ==, 7);
  const unsigned char *bytes = (const unsigned char *)&stats;
  for (size_t i = offsetof(pool_stats_t, total); i < sizeof stats; i++)
    CHECK_INT(bytes[i], ==, 0xaa);
  close_whole(pool);
}

TEST(a_longer_struct_gets_zeros_in_the_tail) {
  pool_t *pool = open_pool(0, 7);
  REQUIRE(pool);
  struct {
    pool_stats_t stats;
    unsigned char tail[64];
    unsigned char guard;
  } longer;
  memset(&longer, 0xaa, sizeof longer);
  longer.stats.size = offsetof(__typeof__(longer), guard);
  CHECK_INT(pool_stats(pool, &longer.stats), ==, 0);
  CHECK_INT(longer.stats.max_size, ==, 7);
  for (size_t i = 0; i < sizeof longer.tail; i++)
    CHECK_INT(longer.tail[i], ==, 0);
  CHECK_INT(longer.guard, ==, 0xaa);
  close_whole(pool);
}

/* Under load every copy adds up. */
TEST(every_copy_is_consistent) {
  enum { SIZE = 4 };
  pool_t *pool = open_pool(0, SIZE);
  REQUIRE(pool);
  struct load *load = start_load(pool, 8, 50);
  pool_stats_t stats = {.size = sizeof stats}, before = {0};
  for (int i = 0; i < scaled(20000); i++) {
    CHECK_INT(pool_stats(pool, &stats), ==, 0);
    if (stats.total != stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing ||
        stats.total > SIZE || stats.gets - stats.puts != (uint64_t)stats.in_use || stats.gets < before.gets ||
        stats.puts < before.puts || stats.wait_us < before.wait_us) {
      CHECK_INT(stats.total, ==, stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing);
      CHECK_INT(stats.total, <=, SIZE);
      CHECK_INT(stats.gets - stats.puts, ==, stats.in_use);
      CHECK_INT(stats.gets, >=, before.gets);
      break;
    }
    before = stats;
  }
  CHECK_INT(stop_load(load).errors, ==, 0);
  close_whole(pool);
}
