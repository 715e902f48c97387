/* Hosted pools: tokens, fresh grants, loans. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_fresh(void *token) { return POOL_TOKEN_FLAGS(token) & POOL_FRESH; }

/* The token without its flags. */
static uint64_t loan_of(void *token) { return (uint64_t)(uintptr_t)token >> 8; }

TEST(a_token_is_flags_slot_and_generation) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK(!(POOL_TOKEN_FLAGS(token) & POOL_DOUBTFUL));
  CHECK_INT(POOL_TOKEN_SLOT(token), <, 3);
  uintptr_t again = (uintptr_t)POOL_TOKEN_GENERATION(token) << 32 | (uintptr_t)POOL_TOKEN_SLOT(token) << 8 |
                    (uintptr_t)POOL_TOKEN_FLAGS(token);
  CHECK(again == (uintptr_t)token);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(slots_count_from_zero) {
  enum { SIZE = 4 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  void *tokens[SIZE];
  unsigned seen = 0;
  for (int i = 0; i < SIZE; i++) {
    tokens[i] = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(tokens[i] != NULL);
    CHECK_INT(POOL_TOKEN_SLOT(tokens[i]), <, SIZE);
    seen |= 1u << POOL_TOKEN_SLOT(tokens[i]);
  }
  CHECK_INT(seen, ==, (1 << SIZE) - 1);
  for (int i = 0; i < SIZE; i++)
    CHECK_INT(host_put(host, tokens[i]), ==, 0);
  host_end(host);
}

TEST(the_first_loan_of_a_slot_is_fresh_and_the_next_is_its_open_object) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK(works(host_object(host, token)));
  uint32_t slot = POOL_TOKEN_SLOT(token);
  int pid = host_pid(host, token);
  CHECK_INT(host_put(host, token), ==, 0);
  for (int i = 0; i < 5; i++) {
    token = pool_get(host->pool, 0);
    REQUIRE(token != NULL);
    CHECK_INT(POOL_TOKEN_FLAGS(token), ==, 0);
    CHECK_INT(POOL_TOKEN_SLOT(token), ==, slot);
    CHECK_INT(host_pid(host, token), ==, pid);
    CHECK(works(host_object(host, token)));
    CHECK_INT(host_put(host, token), ==, 0);
  }
  CHECK_INT(sessions(host->name), ==, 1);
  CHECK_INT(STAT(host->pool, opened), ==, 1);
  host_end(host);
}

TEST(each_loan_has_another_token) {
  enum { LOANS = 2000 };
  static uint64_t seen[LOANS];
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  int repeated = 0;
  for (int i = 0; i < LOANS; i++) {
    void *token = host_get(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    seen[i] = loan_of(token);
    for (int j = 0; j < i; j++)
      repeated += seen[i] == seen[j];
    CHECK_INT(i % 500 == 499 ? host_discard(host, token) : host_put(host, token), ==, 0);
  }
  CHECK_INT(repeated, ==, 0);
  host_end(host);
}

TEST(a_fresh_token_is_not_waited_for_with_any_deadline) {
  pool_options_t options = options_sized(0, 1);
  options.connect_timeout_ms = 100;
  options.check_timeout_ms = 100;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  /* Several times what a pool that connects by itself would allow. */
  observe_ms(500);
  CHECK_INT(STAT(host->pool, connecting), ==, 1);
  CHECK_INT(STAT(host->pool, total), ==, 1);
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 0);
  host_end(host);
}

TEST(one_slot_is_granted_as_fresh_while_nothing_is_known_of_the_server) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  void *first = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(first != NULL);
  CHECK(pool_get(host->pool, 0) == NULL);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get_wait(host->pool, ticket, 50) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(host_adopt(host, first), ==, 0);
  void *second = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(second != NULL);
  CHECK(is_fresh(second));
  CHECK(POOL_TOKEN_SLOT(second) != POOL_TOKEN_SLOT(first));
  CHECK_INT(host_adopt(host, second), ==, 0);
  CHECK_INT(host_put(host, first), ==, 0);
  CHECK_INT(host_put(host, second), ==, 0);
  host_end(host);
}

/* Fresh grants that may be out at once when the server is known to answer; all are adopted in the end. */
static int fresh_at_once(struct host *host, int most) {
  void *tokens[8], *known = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  int count = 0;
  while (count < most && (tokens[count] = pool_get(host->pool, 0)) != NULL)
    CHECK(is_fresh(tokens[count++]));
  CHECK_INT(STAT(host->pool, connecting), ==, count);
  for (int i = 0; i < count; i++) {
    CHECK_INT(host_adopt(host, tokens[i]), ==, 0);
    CHECK_INT(host_put(host, tokens[i]), ==, 0);
  }
  CHECK_INT(host_put(host, known), ==, 0);
  return count;
}

TEST(several_open_at_once_when_the_server_answers) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  CHECK_INT(fresh_at_once(host, 8), ==, 2);
  host_end(host);
}

TEST(connect_concurrency_limits_the_fresh_grants) {
  pool_options_t options = options_sized(0, 6);
  options.connect_concurrency = 1;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  CHECK_INT(fresh_at_once(host, 8), ==, 1);
  host_end(host);
}

TEST(a_try_is_granted_a_fresh_slot_where_there_is_room) {
  enum { SIZE = 3 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  void *tokens[SIZE];
  for (int i = 0; i < SIZE; i++) {
    tokens[i] = host_get(host, 0);
    REQUIRE(tokens[i] != NULL);
    CHECK(works(host_object(host, tokens[i])));
  }
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(sessions(host->name), ==, SIZE);
  for (int i = 0; i < SIZE; i++)
    CHECK_INT(host_put(host, tokens[i]), ==, 0);
  host_end(host);
}

TEST(an_idle_object_is_lent_before_another_is_opened) {
  struct host *host = host_start(0, 5);
  REQUIRE(host);
  for (int i = 0; i < 20; i++) {
    void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  CHECK_INT(STAT(host->pool, opened), ==, 1);
  host_end(host);
}

static void *borrow_once(void *argument) {
  struct host *host = argument;
  void *token = host_get_working(host, slow(8000));
  if (token)
    CHECK_INT(host_put(host, token), ==, 0);
  return NULL;
}

TEST(those_who_wait_are_served_by_puts) {
  enum { WAITERS = 6 };
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  pthread_t threads[WAITERS];
  for (int i = 0; i < WAITERS; i++)
    pthread_create(&threads[i], NULL, borrow_once, host);
  WAIT_FOR(3000, STAT(host->pool, waiting) == WAITERS);
  CHECK_INT(host_put(host, held), ==, 0);
  for (int i = 0; i < WAITERS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(STAT(host->pool, opened), ==, 1);
  CHECK_INT(STAT(host->pool, gets), ==, WAITERS + 1);
  host_end(host);
}

/* A put ends no loan of a discarded object: the one who waits gets the slot, fresh. */
TEST(a_discarded_loan_serves_those_who_wait_with_a_fresh_slot) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(held != NULL);
  int pid = host_pid(host, held);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(8000), &ticket), ==, 0);
  CHECK_INT(host_discard(host, held), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK(host_pid(host, token) != pid);
  CHECK_INT(STAT(host->pool, discarded), ==, 1);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(nothing_is_opened_by_the_library) {
  struct host *host = host_start(2, 4);
  REQUIRE(host);
  int threads = running_threads();
  int code = pool_wait(host->pool, 300); /* observed for several rounds of the upkeep */
  CHECK(code == POOL_ETIMEOUT || code == POOL_ECONNECT);
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(sessions(host->name), ==, 0);
  CHECK_INT(running_threads(), <=, threads);
  host_fill(host, 2);
  CHECK_INT(pool_wait(host->pool, slow(2000)), ==, 0);
  CHECK_INT(STAT(host->pool, opened), ==, 2);
  CHECK_INT(running_threads(), <=, threads);
  host_end(host);
}

static uint32_t slot_of_next(struct host *host) {
  void *token = host_get(host, 0);
  CHECK(token != NULL);
  CHECK_INT(host_put(host, token), ==, 0);
  return POOL_TOKEN_SLOT(token);
}

static void check_order(int mode) {
  pool_options_t options = options_sized(0, 2);
  options.queue_mode = mode;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  void *first = host_get(host, POOL_TIMEOUT_DEFAULT), *second = host_get(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(first && second);
  CHECK_INT(host_put(host, first), ==, 0);
  CHECK_INT(host_put(host, second), ==, 0);
  CHECK_INT(slot_of_next(host), ==, POOL_TOKEN_SLOT(mode == POOL_LIFO ? second : first));
  CHECK_INT(slot_of_next(host), ==, POOL_TOKEN_SLOT(second));
  host_end(host);
}

TEST(the_last_used_object_is_lent_first) { check_order(POOL_LIFO); }
TEST(with_fifo_the_object_idle_for_longest_is_lent_first) { check_order(POOL_FIFO); }

TEST(an_old_hosted_loan_is_reported_once) {
  pool_options_t options = options_sized(0, 1);
  options.leak_threshold_ms = 100;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  WAIT_FOR(3000, STAT(host->pool, leaks) == 1);
  /* Once: observed for three more thresholds. */
  observe_ms(300);
  CHECK_INT(STAT(host->pool, leaks), ==, 1);
  CHECK_INT(host_put(host, held), ==, 0);
  host_end(host);
}
