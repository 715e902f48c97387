/* pool_collect: what it fetches, how long it waits, and who is woken. */
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { MOST = 8 };

struct collector {
  pthread_t thread;
  pool_t *pool;
  int timeout_ms;
  void *tokens[MOST];
  int count;
  int64_t took;
};

static void *collect(void *argument) {
  struct collector *collector = argument;
  int64_t start = now_ms();
  collector->count = pool_collect(collector->pool, collector->tokens, MOST, collector->timeout_ms);
  collector->took = now_ms() - start;
  return NULL;
}

static void start_collecting(struct collector *collector, pool_t *pool, int timeout_ms) {
  *collector = (struct collector){.pool = pool, .timeout_ms = timeout_ms};
  pthread_create(&collector->thread, NULL, collect, collector);
  nap_ms(30); /* so that it mostly waits already; right either way */
}

/* Closes what another thread has fetched. */
static void close_fetched(struct host *host, struct collector *collector) {
  for (int i = 0; i < collector->count; i++)
    CHECK_INT(host_discard(host, collector->tokens[i]), ==, 0);
}

TEST(with_nothing_to_fetch_the_time_passes) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  host_fill(host, 2);
  CHECK_INT(host_collect(host, 0), ==, 0);
  int64_t start = now_ms();
  CHECK_INT(host_collect(host, 150), ==, 0);
  CHECK_INT(now_ms() - start, >=, 149);
  CHECK_INT(now_ms() - start, <, slow(1000));
  CHECK_INT(STAT(host->pool, idle), ==, 2);
  host_end(host);
}

TEST(each_token_is_fetched_once_and_not_more_than_asked_for) {
  enum { SIZE = 5 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  WAIT_FOR(3000, STAT(host->pool, idle) == 0);
  void *tokens[SIZE];
  unsigned seen = 0;
  int count = 0;
  while (count < SIZE) {
    int got = pool_collect(host->pool, tokens + count, count == 0 ? 2 : 1, slow(3000));
    REQUIRE_INT(got, >=, 1);
    CHECK_INT(got, <=, count == 0 ? 2 : 1);
    for (int i = count; i < count + got; i++)
      seen |= 1u << POOL_TOKEN_SLOT(tokens[i]);
    count += got;
  }
  CHECK_INT(seen, ==, (1 << SIZE) - 1);
  CHECK_INT(pool_collect(host->pool, tokens, SIZE, 50), ==, 0);
  /* Fetched, they are the host's until confirmed: none is granted. */
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(STAT(host->pool, total), ==, SIZE);
  for (int i = 0; i < SIZE; i++) {
    CHECK_INT(pool_put(host->pool, tokens[i]), <, 0);
    CHECK_INT(host_discard(host, tokens[i]), ==, 0);
    CHECK_INT(pool_discard(host->pool, tokens[i]), ==, POOL_ENOTLEASED);
  }
  WAIT_FOR(3000, STAT(host->pool, total) == 0);
  WAIT_FOR(3000, sessions(host->name) == 0);
  host_end(host);
}

TEST(a_thread_that_collects_is_woken) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  host_fill(host, 2);
  struct collector collector;
  start_collecting(&collector, host->pool, slow(10000));
  CHECK_INT(pool_resize(host->pool, 0, 1), ==, 0);
  pthread_join(collector.thread, NULL);
  CHECK_INT(collector.count, ==, 1);
  CHECK_INT(collector.took, <, slow(2000));
  close_fetched(host, &collector);
  WAIT_FOR(2000, STAT(host->pool, total) == 1);
  host_end(host);
}

TEST(two_threads_that_collect_share_the_tokens) {
  enum { SIZE = 6 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  for (int round = 0; round < scaled(10); round++) {
    host_fill(host, SIZE);
    struct collector both[2];
    for (int i = 0; i < 2; i++)
      start_collecting(&both[i], host->pool, slow(500));
    CHECK_INT(pool_reconnect(host->pool), ==, 0);
    int closed = 0;
    for (int i = 0; i < 2; i++) {
      pthread_join(both[i].thread, NULL);
      closed += both[i].count;
      close_fetched(host, &both[i]);
    }
    while (closed < SIZE) {
      int count = host_collect(host, slow(3000));
      REQUIRE_INT(count, >, 0);
      closed += count;
    }
    CHECK_INT(closed, ==, SIZE);
    CHECK_INT(atomic_load(&host->open), ==, 0);
  }
  host_end(host);
}

TEST(a_close_hands_out_the_idle_objects_and_then_says_closed) {
  enum { SIZE = 3 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_close(host->pool), ==, 0);
  int closed = 0, count;
  while ((count = host_collect(host, slow(3000))) > 0)
    closed += count;
  CHECK_INT(count, ==, POOL_ECLOSED);
  CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
  CHECK_INT(closed, ==, SIZE - 1);
  CHECK_INT(host_put_only(host, held) & POOL_CLOSE, ==, POOL_CLOSE);
  CHECK_INT(host_discard(host, held), ==, 0);
  CHECK_INT(host_collect(host, POOL_TIMEOUT_INFINITE), ==, POOL_ECLOSED);
  WAIT_FOR(2000, sessions(host->name) == 0);
  host_free(host);
}

TEST(a_thread_that_collects_is_woken_by_the_close) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  struct collector collector;
  start_collecting(&collector, host->pool, POOL_TIMEOUT_INFINITE);
  int64_t start = now_ms();
  CHECK_INT(pool_close(host->pool), ==, 0);
  pthread_join(collector.thread, NULL);
  CHECK_INT(collector.count, ==, POOL_ECLOSED);
  CHECK_INT(now_ms() - start, <, slow(1000));
  host_free(host);
}

TEST(the_default_timeout_is_a_wait) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  host_fill(host, 1);
  struct collector collector;
  start_collecting(&collector, host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  pthread_join(collector.thread, NULL);
  CHECK_INT(collector.count, ==, 1);
  close_fetched(host, &collector);
  host_end(host);
}

/* ---------------------------------------------------------------------------------------- without a pool */

TEST(without_a_pool_the_time_passes_as_well) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  host_fill(host, 1);
  void *token = NULL;
  CHECK_INT(pool_collect(NULL, &token, 1, 0), ==, 0);
  int64_t start = now_ms();
  CHECK_INT(pool_collect(NULL, NULL, 0, 150), ==, 0);
  CHECK_INT(now_ms() - start, >=, 149);
  CHECK(token == NULL);
  host_end(host);
}

TEST(without_a_pool_any_pool_wakes_and_nothing_is_fetched) {
  enum { POOLS = 3 };
  struct host *hosts[POOLS];
  for (int i = 0; i < POOLS; i++) {
    hosts[i] = host_start(0, 1);
    REQUIRE(hosts[i]);
    host_fill(hosts[i], 1);
  }
  for (int i = 0; i < POOLS; i++) {
    struct collector collector;
    start_collecting(&collector, NULL, slow(10000));
    CHECK_INT(pool_reconnect(hosts[i]->pool), ==, 0);
    pthread_join(collector.thread, NULL);
    CHECK_INT(collector.count, ==, 1);
    CHECK(collector.tokens[0] == NULL);
    CHECK_INT(collector.took, <, slow(2000));
    CHECK_INT(pool_collect(NULL, NULL, 0, 0), ==, 1); /* until somebody fetches them */
    for (int j = 0; j < POOLS; j++)
      CHECK_INT(host_collect(hosts[j], 0), ==, i == j);
    CHECK_INT(pool_collect(NULL, NULL, 0, 0), ==, 0);
  }
  for (int i = 0; i < POOLS; i++)
    host_end(hosts[i]);
}

TEST(without_a_pool_a_closed_pools_objects_are_told_too) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  host_fill(host, 2);
  struct collector collector;
  start_collecting(&collector, NULL, slow(10000));
  CHECK_INT(pool_close(host->pool), ==, 0);
  pthread_join(collector.thread, NULL);
  CHECK_INT(collector.count, ==, 1);
  int closed = 0, count;
  while ((count = host_collect(host, 0)) > 0)
    closed += count;
  CHECK_INT(closed, ==, 2);
  CHECK_INT(pool_collect(NULL, NULL, 0, 0), ==, 0);
  host_free(host);
}

struct sweeper {
  struct host *host;
  atomic_bool stop;
};

static void *sweep(void *argument) {
  struct sweeper *sweeper = argument;
  while (!atomic_load(&sweeper->stop))
    CHECK_INT(host_collect(sweeper->host, 20), >=, 0);
  return NULL;
}

/* What is granted as fresh is nothing to fetch any more: the host checks at each step that a slot is in one hand. */
TEST(a_collector_and_a_borrower_never_get_the_same_slot) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  struct sweeper sweeper = {.host = host};
  pthread_t thread;
  pthread_create(&thread, NULL, sweep, &sweeper);
  for (int round = 0; round < scaled(100); round++) {
    host_fill(host, 2);
    CHECK_INT(pool_reconnect(host->pool), ==, 0);
    void *token = host_get_working(host, slow(5000));
    if (token)
      CHECK_INT(host_put(host, token) & POOL_CLOSE, ==, 0);
  }
  atomic_store(&sweeper.stop, true);
  pthread_join(thread, NULL);
  CHECK_INT(atomic_load(&host->most_open), <=, 2);
  host_end(host);
}
