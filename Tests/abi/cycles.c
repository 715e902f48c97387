/* Nothing piles up: descriptors, threads, memory. */
#include "pools.h"

#include <stdlib.h>
#include <string.h>

/* A process that has done each thing once, and whose connectors have gone. */
static void warm_up(void) {
  for (int i = 0; i < 200; i++) {
    pool_t *pool = pool_create("host=127.0.0.1 port=1", NULL);
    REQUIRE(pool);
    REQUIRE_INT(pool_close(pool), ==, 0);
  }
}

TEST_LIMIT(a_hundred_thousand_cycles_leave_no_trace, 120) {
  int cycles = scaled(100000);
  warm_up();
  int descriptors = open_descriptors(), threads = running_threads();
  long memory = resident_kib();
  for (int i = 0; i < cycles; i++) {
    pool_t *pool = pool_create("host=127.0.0.1 port=1", NULL);
    REQUIRE(pool);
    REQUIRE_INT(pool_close(pool), ==, 0);
  }
  WAIT_FOR(3000, running_threads() <= threads);
  WAIT_FOR(3000, open_descriptors() <= descriptors);
  if (!is_slow_run()) /* a checked or sanitized program keeps books of its own */
    CHECK_INT(resident_kib() - memory, <, 1024);
}

TEST_LIMIT(cycles_with_a_connection_leave_no_trace, 120) {
  int cycles = scaled(300);
  for (int i = 0; i < 5; i++) {
    pool_t *pool = open_pool(0, 2);
    CHECK_INT(pool_put(pool, get_working(pool, slow(5000))), ==, 0);
    CHECK_INT(pool_close(pool), ==, 0);
  }
  WAIT_FOR(5000, running_threads() <= resting_threads());
  int descriptors = open_descriptors(), threads = running_threads();
  long memory = resident_kib();
  for (int i = 0; i < cycles; i++) {
    pool_t *pool = open_pool(0, 2);
    REQUIRE(pool);
    CHECK_INT(pool_put(pool, get_working(pool, slow(5000))), ==, 0);
    CHECK_INT(pool_close(pool), ==, 0);
  }
  WAIT_FOR(5000, running_threads() <= threads);
  WAIT_FOR(5000, open_descriptors() <= descriptors);
  if (!is_slow_run())
    CHECK_INT(resident_kib() - memory, <, 1024);
}

static pool_t *closed_pool(void) {
  pool_t *pool = pool_create("host=127.0.0.1 port=1", NULL);
  if (CHECK(pool != NULL))
    CHECK_INT(pool_close(pool), ==, 0);
  return pool;
}

static int by_value(const void *left, const void *right) {
  uintptr_t a = *(const uintptr_t *)left, b = *(const uintptr_t *)right;
  return (a > b) - (a < b);
}

/* As many closed ones as are promised to be known at one time, in one place of the table and in many. */
TEST_LIMIT(a_closed_pool_is_known_for_ever, 90) {
  int count = scaled(65536);
  pool_t **closed = calloc((size_t)count, sizeof *closed);
  REQUIRE(closed != NULL);
  for (int i = 0; i < count; i++)
    REQUIRE((closed[i] = closed_pool()) != NULL);
  check_every_function(closed[0], POOL_ECLOSED);
  for (int i = 0; i < count; i++) {
    CHECK(pool_get(closed[i], 0) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
    if (i % 1024 == 0)
      check_every_function(closed[i], POOL_ECLOSED);
  }
  qsort(closed, (size_t)count, sizeof *closed, by_value);
  for (int i = 1; i < count; i++)
    CHECK(closed[i] != closed[i - 1]);
  free(closed);
}

TEST(connectors_are_gone_a_second_after_the_last_connect) {
  pool_t *pool = open_pool(8, 8);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(10000)), ==, 0);
  WAIT_FOR(3000, running_threads() <= resting_threads());
  close_whole(pool);
}

TEST(loans_cost_no_descriptor_and_no_memory) {
  pool_t *pool = open_pool(2, 2);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  WAIT_FOR(3000, running_threads() <= resting_threads());
  int descriptors = open_descriptors();
  long memory = resident_kib();
  for (int i = 0; i < scaled(1000000); i++) {
    void *conn = pool_get(pool, 0);
    if (conn == NULL || pool_put(pool, conn) != 0) {
      CHECK_INT(pool_errcode(), ==, POOL_OK);
      break;
    }
  }
  CHECK_INT(open_descriptors(), ==, descriptors);
  if (!is_slow_run())
    CHECK_INT(resident_kib() - memory, <, 256);
  close_whole(pool);
}

TEST(failed_connects_leave_no_trace) {
  pool_t *pool = pool_create("host=127.0.0.1 port=1 pool_min_size=1", NULL);
  REQUIRE(pool);
  WAIT_FOR(3000, STAT(pool, connect_failures) >= 1);
  int descriptors = open_descriptors();
  WAIT_FOR(10000, STAT(pool, connect_failures) >= 6);
  CHECK_INT(open_descriptors(), <=, descriptors + 1); /* one attempt may be under way */
  CHECK_INT(pool_close(pool), ==, 0);
}
