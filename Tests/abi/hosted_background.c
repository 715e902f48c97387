/* Hosted pools with the option background_open: threads of the host open, callers get open objects only. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>

static bool is_fresh(void *token) { return POOL_TOKEN_FLAGS(token) & POOL_FRESH; }

static struct host *start(int min_size, int max_size) {
  pool_options_t options = options_sized(min_size, max_size);
  options.background_open = 1;
  return host_start_with(&options);
}

static void *work(void *argument) {
  struct host *host = argument;
  while (host_collect(host, slow(10000)) >= 0)
    continue;
  return NULL;
}

struct workers {
  pthread_t threads[2];
};

static struct workers start_workers(struct host *host) {
  struct workers workers;
  for (int i = 0; i < 2; i++)
    pthread_create(&workers.threads[i], NULL, work, host);
  return workers;
}

/* Closes a pool that is whole; the workers close what is open, and end. */
static void end_with_workers(struct host *host, struct workers *workers) {
  WAIT_FOR(3000, STAT(host->pool, in_use) == 0 && STAT(host->pool, waiting) == 0);
  CHECK_INT(STAT(host->pool, internal_errors), ==, 0);
  CHECK_INT(pool_close(host->pool), ==, 0);
  for (int i = 0; i < 2; i++)
    pthread_join(workers->threads[i], NULL);
  WAIT_FOR(3000, sessions(host->name) == 0);
  host_free(host);
}

/* An open object, from a worker if need be. */
static void *get_open(struct host *host, int timeout_ms) {
  void *token = host_get(host, timeout_ms);
  if (!CHECK(token != NULL)) {
    fprintf(stderr, "    no loan: %d: %s\n", host_code(), pool_errmsg());
    return NULL;
  }
  CHECK(!is_fresh(token));
  CHECK(works(host_object(host, token)));
  return token;
}

TEST(a_caller_gets_an_object_that_a_worker_opened) {
  struct host *host = start(0, 2);
  REQUIRE(host);
  CHECK(pool_get(host->pool, 0) == NULL); /* never a fresh slot */
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(8000), &ticket), ==, 0);
  void *tokens[4];
  int count = pool_collect(host->pool, tokens, 4, slow(3000));
  REQUIRE_INT(count, ==, 1);
  CHECK(is_fresh(tokens[0]));
  CHECK_INT(STAT(host->pool, connecting), ==, 1);
  CHECK(pool_get_wait(host->pool, ticket, 0) == NULL);
  PGconn *object = host_connect(host, tokens[0]);
  CHECK_INT(pool_adopt(host->pool, tokens[0], PQsocket(object)), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(!is_fresh(token));
  CHECK_INT(POOL_TOKEN_SLOT(token), ==, POOL_TOKEN_SLOT(tokens[0]));
  CHECK(POOL_TOKEN_GENERATION(token) != POOL_TOKEN_GENERATION(tokens[0]));
  CHECK(works(host_object(host, token)));
  /* The worker's token has ended. */
  CHECK_INT(pool_put(host->pool, tokens[0]), ==, POOL_ENOTLEASED);
  CHECK_INT(pool_discard(host->pool, tokens[0]), ==, POOL_ENOTLEASED);
  CHECK_INT(pool_adopt(host->pool, tokens[0], PQsocket(observer())), ==, POOL_ENOTLEASED);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(STAT(host->pool, gets), ==, 1);
  host_end(host);
}

TEST(an_object_that_nobody_waits_for_lies_idle) {
  struct host *host = start(2, 4);
  REQUIRE(host);
  while (STAT(host->pool, idle) < 2)
    REQUIRE_INT(host_collect(host, slow(3000)), >, 0);
  CHECK_INT(STAT(host->pool, gets), ==, 0);
  CHECK_INT(STAT(host->pool, opened), ==, 2);
  CHECK_INT(pool_wait(host->pool, slow(1000)), ==, 0);
  /* Not more than min_size: several rounds of the upkeep. */
  CHECK_INT(host_collect(host, 300), ==, 0);
  CHECK_INT(sessions(host->name), ==, 2);
  void *token = get_open(host, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(workers_open_what_callers_want_up_to_max_size) {
  enum { SIZE = 3 };
  struct host *host = start(0, SIZE);
  REQUIRE(host);
  struct workers workers = start_workers(host);
  void *tokens[SIZE];
  for (int i = 0; i < SIZE; i++)
    tokens[i] = get_open(host, POOL_TIMEOUT_DEFAULT);
  CHECK(pool_get(host->pool, 200) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(sessions(host->name), ==, SIZE);
  for (int i = 0; i < SIZE; i++)
    CHECK_INT(host_put(host, tokens[i]), ==, 0);
  end_with_workers(host, &workers);
}

TEST(what_is_lost_or_discarded_is_replaced) {
  struct host *host = start(2, 2);
  REQUIRE(host);
  struct workers workers = start_workers(host);
  CHECK_INT(pool_wait(host->pool, slow(5000)), ==, 0);
  CHECK_INT(terminate_sessions(host->name), ==, 2);
  WAIT_FOR(5000, STAT(host->pool, lost) == 2 && STAT(host->pool, idle) == 2);
  CHECK_INT(sessions(host->name), ==, 2);
  void *token = get_open(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_discard(host, token), ==, 0);
  WAIT_FOR(5000, STAT(host->pool, opened) == 5 && STAT(host->pool, idle) == 2);
  CHECK_INT(atomic_load(&host->most_open), <=, 2);
  end_with_workers(host, &workers);
}

TEST(what_expires_is_replaced) {
  pool_options_t options = options_sized(1, 2);
  options.background_open = 1;
  options.max_lifetime_ms = slow(300);
  options.lifetime_jitter_percent = 0;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  struct workers workers = start_workers(host);
  CHECK_INT(pool_wait(host->pool, slow(5000)), ==, 0);
  WAIT_FOR(5000, STAT(host->pool, expired) >= 3);
  WAIT_FOR(5000, STAT(host->pool, idle) >= 1);
  end_with_workers(host, &workers);
}

TEST(a_failed_attempt_of_a_worker_is_told_to_those_who_wait) {
  struct host *host = start(0, 2);
  REQUIRE(host);
  snprintf(host->conninfo, sizeof host->conninfo, "host=127.0.0.1 port=1");
  struct workers workers = start_workers(host);
  CHECK(pool_get(host->pool, slow(500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "connection to server");
  CHECK_INT(STAT(host->pool, connect_failures), >=, 1);
  CHECK_INT(STAT(host->pool, connect_failures), <=, is_slow_run() ? 20 : 5); /* with delays between them */
  end_with_workers(host, &workers);
}

/* What is to be closed comes first, so that there is room for what is to be opened. */
TEST(objects_to_close_are_fetched_before_slots_to_open) {
  enum { SIZE = 2 };
  struct host *host = start(SIZE, 2 * SIZE);
  REQUIRE(host);
  while (STAT(host->pool, idle) < SIZE)
    REQUIRE_INT(host_collect(host, slow(3000)), >, 0);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  WAIT_FOR(2000, STAT(host->pool, idle) == 0 && STAT(host->pool, connecting) > 0);
  void *tokens[8];
  int count = pool_collect(host->pool, tokens, 8, slow(3000)), opens = 0;
  for (int i = 0; i < count; i++) {
    opens += is_fresh(tokens[i]);
    CHECK(is_fresh(tokens[i]) || opens == 0);
    if (is_fresh(tokens[i]))
      CHECK_INT(pool_adopt(host->pool, tokens[i], PQsocket(host_connect(host, tokens[i]))), ==, 0);
    else
      CHECK_INT(host_discard(host, tokens[i]), ==, 0);
  }
  while (STAT(host->pool, idle) < SIZE)
    REQUIRE_INT(host_collect(host, slow(3000)), >, 0);
  host_end(host);
}

TEST(an_offer_wakes_who_collects_from_any_pool) {
  struct host *host = start(0, 1);
  REQUIRE(host);
  CHECK_INT(pool_collect(NULL, NULL, 0, 0), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(8000), &ticket), ==, 0);
  CHECK_INT(pool_collect(NULL, NULL, 0, slow(3000)), ==, 1);
  CHECK_INT(host_collect(host, 0), ==, 1);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  CHECK(token != NULL);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_worker_whose_pool_was_closed_closes_its_object) {
  struct host *host = start(1, 1);
  REQUIRE(host);
  void *tokens[1];
  REQUIRE_INT(pool_collect(host->pool, tokens, 1, slow(3000)), ==, 1);
  CHECK(is_fresh(tokens[0]));
  CHECK_INT(pool_close(host->pool), ==, 0);
  CHECK_INT(pool_collect(host->pool, tokens, 1, slow(3000)), ==, POOL_ECLOSED);
  PGconn *object = host_connect(host, tokens[0]);
  CHECK_INT(pool_adopt(host->pool, tokens[0], PQsocket(object)), ==, POOL_ECLOSED);
  host_forget(host, tokens[0]);
  WAIT_FOR(2000, sessions(host->name) == 0);
  host_free(host);
}

TEST_LIMIT(workers_under_load_stay_within_the_limit, 60) {
  enum { SIZE = 3 };
  pool_options_t options = options_sized(1, SIZE);
  options.background_open = 1;
  options.max_lifetime_ms = 300;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  struct workers workers = start_workers(host);
  struct host_load *load = host_load_start(host, 8, 200);
  int most = 0;
  for (int64_t end = now_ms() + 3000; now_ms() < end || STAT(host->pool, expired) <= SIZE;) {
    int now = sessions(host->name);
    most = now > most ? now : most;
  }
  CHECK_INT(host_load_stop(load).errors, ==, 0);
  CHECK_INT(most, <=, SIZE);
  CHECK_INT(atomic_load(&host->most_open), <=, SIZE);
  CHECK_INT(STAT(host->pool, expired), >, SIZE);
  end_with_workers(host, &workers);
}

TEST(background_open_is_0_or_1) {
  pool_options_t options = options_sized(0, 1);
  options.background_open = 2;
  CHECK(pool_create_hosted(&options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "background_open");
}
