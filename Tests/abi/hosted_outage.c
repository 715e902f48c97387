/* Objects that cannot be opened: delays, causes, errors that will not go away, and the end of an outage. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *fresh(pool_t *pool, int timeout_ms) {
  void *token = pool_get(pool, timeout_ms);
  if (token)
    CHECK(POOL_TOKEN_FLAGS(token) & POOL_FRESH);
  return token;
}

/* Milliseconds from a failure to the next grant, which is in `token` then. */
static int64_t next_grant_after(pool_t *pool, int64_t failed, void **token) {
  *token = fresh(pool, slow(10000));
  CHECK(*token != NULL);
  return now_ms() - failed;
}

static bool is_clean(const char *text) {
  for (; *text; text++)
    if ((unsigned char)*text < 0x20 || *text == 0x7f)
      return false;
  return true;
}

TEST(a_failed_slot_is_empty_again) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_fail(host->pool, token, "08006", "no route"), ==, 0);
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(STAT(host->pool, connecting), ==, 0);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 1);
  CHECK_INT(STAT(host->pool, opened), ==, 0);
  CHECK_INT(pool_fail(host->pool, token, "08006", "no route"), ==, POOL_ENOTLEASED);
  CHECK_INT(pool_discard(host->pool, token), ==, POOL_ENOTLEASED);
  CHECK_INT(pool_adopt(host->pool, token, PQsocket(observer())), ==, POOL_ENOTLEASED);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_discarded_fresh_slot_is_a_failure_without_a_cause) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_discard(host->pool, token), ==, 0);
  int64_t failed = now_ms();
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 1);
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_INT(next_grant_after(host->pool, failed, &token), >=, 80);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(the_delays_between_attempts_grow_from_100_ms_to_800) {
  static const int64_t least[] = {85, 175, 355, 715, 715, 715}; /* a tenth less by chance, and what the clock rounds */
  struct host *host = host_start(0, 4);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  for (size_t i = 0; i < sizeof least / sizeof *least; i++) {
    CHECK_INT(pool_fail(host->pool, token, NULL, "refused"), ==, 0);
    int64_t took = next_grant_after(host->pool, now_ms(), &token);
    CHECK_INT(took, >=, least[i]);
    CHECK_INT(took, <=, slow(1250));
    REQUIRE(token != NULL);
    /* One at a time. */
    CHECK(pool_get(host->pool, 0) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  }
  /* A success ends it: the next failure counts as a first one. */
  CHECK_INT(host_adopt(host, token), ==, 0);
  void *second = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_fail(host->pool, second, NULL, "refused"), ==, 0);
  int64_t took = next_grant_after(host->pool, now_ms(), &second);
  CHECK_INT(took, <=, slow(350));
  CHECK_INT(host_adopt(host, second), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(host_put(host, second), ==, 0);
  host_end(host);
}

TEST(an_error_that_will_not_go_away_waits_five_seconds) {
  static const char *const states[] = {"28P01", "28000", "3D000", "0A000"};
  enum { STATES = sizeof states / sizeof *states };
  struct host *hosts[STATES];
  int64_t failed[STATES];
  pool_ticket_t tickets[STATES];
  for (int i = 0; i < STATES; i++) {
    hosts[i] = host_start(0, 2);
    REQUIRE(hosts[i]);
    void *token = fresh(hosts[i]->pool, POOL_TIMEOUT_DEFAULT);
    failed[i] = now_ms();
    CHECK_INT(pool_fail(hosts[i]->pool, token, states[i], "refused for good"), ==, 0);
    CHECK_INT(pool_get_start(hosts[i]->pool, slow(15000), &tickets[i]), ==, 0);
  }
  for (int i = 0; i < STATES; i++) {
    void *token = pool_get_wait(hosts[i]->pool, tickets[i], POOL_TIMEOUT_DEFAULT);
    CHECK_INT(now_ms() - failed[i], >=, 4900);
    CHECK_INT(now_ms() - failed[i], <=, slow(5500));
    REQUIRE(token != NULL);
    CHECK_INT(host_adopt(hosts[i], token), ==, 0);
    CHECK_INT(host_put(hosts[i], token), ==, 0);
    host_end(hosts[i]);
  }
}

TEST(any_other_sqlstate_waits_a_second_at_most) {
  static const char *const states[] = {NULL, "", "2", "08006", "57P03", "53300", "XX000", "00000", "no sqlstate", "3D001"};
  for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
    struct host *host = host_start(0, 1);
    REQUIRE(host);
    void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
    CHECK_INT(pool_fail(host->pool, token, states[i], NULL), ==, 0);
    if (!CHECK_INT(next_grant_after(host->pool, now_ms(), &token), <=, slow(1250)))
      fprintf(stderr, "    sqlstate %s\n", states[i] ? states[i] : "NULL");
    CHECK_INT(pool_discard(host->pool, token), ==, 0);
    host_end(host);
  }
}

struct waiter {
  pthread_t thread;
  pool_t *pool;
  int timeout_ms;
  void *token;
  int code;
  char message[1024];
};

static void *wait_with_message(void *argument) {
  struct waiter *waiter = argument;
  waiter->token = pool_get(waiter->pool, waiter->timeout_ms);
  waiter->code = waiter->token ? 0 : pool_errcode();
  snprintf(waiter->message, sizeof waiter->message, "%s", waiter->token ? "" : pool_errmsg());
  return NULL;
}

/* What the caller is told who waits while another thread fails with this message. */
static void wait_beside_failure(struct waiter *waiter, const char *message) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  *waiter = (struct waiter){.pool = host->pool, .timeout_ms = slow(300)};
  pthread_create(&waiter->thread, NULL, wait_with_message, waiter);
  WAIT_FOR(slow(300), STAT(host->pool, waiting) == 1);
  /* The five seconds, so that the waiter is not granted the next attempt. */
  CHECK_INT(pool_fail(host->pool, token, "28P01", message), ==, 0);
  pthread_join(waiter->thread, NULL);
  CHECK(waiter->token == NULL);
  CHECK_INT(waiter->code, ==, POOL_ECONNECT);
  CHECK(is_clean(waiter->message));
  host_end(host);
}

TEST(those_who_wait_are_told_the_cause) {
  struct waiter waiter;
  wait_beside_failure(&waiter, "connection to server at \"db\" failed: password authentication failed");
  CHECK_HAS(waiter.message, "connection to server at \"db\" failed: password authentication failed");
}

TEST(the_cause_is_cleaned_of_control_characters) {
  struct waiter waiter;
  wait_beside_failure(&waiter, "first line\n\tsecond\r\n\x1b[31mred\x01\x7f end\n");
  CHECK_HAS(waiter.message, "first line");
  CHECK_HAS(waiter.message, "second");
  CHECK_HAS(waiter.message, "red");
  CHECK_HAS(waiter.message, "end");
}

TEST(the_cause_may_be_left_out_or_long) {
  struct waiter waiter;
  wait_beside_failure(&waiter, NULL);
  wait_beside_failure(&waiter, "");
  size_t size = 100000;
  char *text = malloc(size);
  memset(text, 'x', size);
  memcpy(text, "the cause ", 10);
  text[size - 1] = 0;
  wait_beside_failure(&waiter, text);
  CHECK_HAS(waiter.message, "the cause x");
  free(text);
}

TEST(the_cause_is_copied) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  char cause[] = "words of the moment";
  CHECK_INT(pool_fail(host->pool, fresh(host->pool, POOL_TIMEOUT_DEFAULT), "28P01", cause), ==, 0);
  memset(cause, '#', sizeof cause - 1);
  CHECK(pool_get(host->pool, 20) == NULL);
  CHECK_HAS(pool_errmsg(), "words of the moment");
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "words of the moment");
  host_end(host);
}

static void *wait_for_min_size(void *argument) {
  struct waiter *waiter = argument;
  waiter->code = pool_wait(waiter->pool, slow(10000));
  snprintf(waiter->message, sizeof waiter->message, "%s", pool_errmsg());
  return NULL;
}

TEST(a_wait_for_min_size_ends_early_on_an_error_that_will_not_go_away) {
  struct host *host = host_start(1, 1);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  struct waiter waiter = {.pool = host->pool};
  int64_t start = now_ms();
  pthread_create(&waiter.thread, NULL, wait_for_min_size, &waiter);
  CHECK_INT(pool_fail(host->pool, token, "3D000", "no such database"), ==, 0);
  pthread_join(waiter.thread, NULL);
  CHECK_INT(waiter.code, ==, POOL_ECONNECT);
  CHECK_HAS(waiter.message, "no such database");
  CHECK_INT(now_ms() - start, <, slow(3000));
  host_end(host);
}

TEST(a_waiter_makes_the_next_attempt_after_anothers_failure) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  struct waiter waiter = {.pool = host->pool, .timeout_ms = slow(5000)};
  pthread_create(&waiter.thread, NULL, wait_with_message, &waiter);
  WAIT_FOR(3000, STAT(host->pool, waiting) == 1);
  CHECK_INT(pool_fail(host->pool, token, NULL, "refused"), ==, 0);
  pthread_join(waiter.thread, NULL);
  REQUIRE(waiter.token != NULL);
  CHECK(POOL_TOKEN_FLAGS(waiter.token) & POOL_FRESH);
  CHECK_INT(host_adopt(host, waiter.token), ==, 0);
  CHECK_INT(host_put(host, waiter.token), ==, 0);
  host_end(host);
}

/* Open objects are lent while no new one can be had. */
TEST(what_is_open_is_lent_during_an_outage) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *open = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  void *token = fresh(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_fail(host->pool, token, "28000", "refused"), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(4000), &ticket), ==, 0);
  CHECK_INT(host_put(host, open), ==, 0);
  token = pool_get_wait(host->pool, ticket, slow(2000));
  REQUIRE(token != NULL);
  CHECK(!(POOL_TOKEN_FLAGS(token) & POOL_FRESH));
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST_LIMIT(an_outage_under_load_ends_by_itself, 60) {
  enum { SIZE = 3, THREADS = 8 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  char conninfo[sizeof host->conninfo];
  snprintf(conninfo, sizeof conninfo, "%s", host->conninfo);
  snprintf(host->conninfo, sizeof host->conninfo, "host=127.0.0.1 port=1");
  CHECK(host_get(host, POOL_TIMEOUT_DEFAULT) == NULL);
  CHECK_INT(host_code(), ==, POOL_ECONNECT);
  CHECK(host_get(host, 0) == NULL);
  CHECK_INT(host_code(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "connection to server");
  for (int i = 0; i < 3; i++)
    CHECK(host_get(host, slow(2000)) == NULL);
  snprintf(host->conninfo, sizeof host->conninfo, "%s", conninfo);
  struct host_load *load = host_load_start(host, THREADS, 200);
  WAIT_FOR(5000, host_load_loans(load) > 100);
  CHECK_INT(host_load_stop(load).errors, ==, 0);
  CHECK_INT(atomic_load(&host->most_open), <=, SIZE);
  host_end(host);
}
