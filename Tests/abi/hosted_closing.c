/* Objects that must go: told at the put, collected, or granted as fresh. */
#include "host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static bool is_fresh(void *token) { return POOL_TOKEN_FLAGS(token) & POOL_FRESH; }

/* Puts a loan whose object must go, step by step as the header says. The slot counts until the object is closed. */
static void put_what_must_go(struct host *host, void *token) {
  int answer = host_put_only(host, token);
  CHECK_INT(answer & POOL_CLOSE, ==, POOL_CLOSE);
  CHECK_INT(answer & ~(POOL_CLOSE | POOL_COLLECT), ==, 0);
  CHECK_INT(pool_put(host->pool, token), ==, POOL_ENOTLEASED);
  PQfinish(host_object(host, token));
  host->objects[POOL_TOKEN_SLOT(token)] = NULL;
  atomic_fetch_sub(&host->open, 1);
  CHECK_INT(pool_discard(host->pool, token), ==, 0);
  CHECK_INT(pool_discard(host->pool, token), ==, POOL_ENOTLEASED);
  if (answer & POOL_COLLECT)
    CHECK_INT(host_collect(host, 0), >, 0);
}

TEST(a_slot_counts_until_its_object_is_closed) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  CHECK_INT(host_put_only(host, token), ==, POOL_CLOSE);
  CHECK_INT(STAT(host->pool, in_use), ==, 0);
  CHECK_INT(STAT(host->pool, total), ==, 1);
  CHECK_INT(STAT(host->pool, closing), ==, 1);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(10000), &ticket), ==, 0);
  /* For longer than a closed session counts: the host has not said that it is closed. */
  CHECK(pool_get_wait(host->pool, ticket, 1300) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(host_discard(host, token), ==, 0);
  token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

enum ending { CLOSED, LEFT_OPEN, FROZEN };

/* Milliseconds until the slot of a discarded loan is there again. */
static int64_t until_free(struct host *host, enum ending ending) {
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  if (!token)
    return -1;
  PGconn *object = host_object(host, token);
  int pid = host_pid(host, token);
  if (ending != CLOSED) {
    host->objects[POOL_TOKEN_SLOT(token)] = NULL;
    atomic_fetch_sub(&host->open, 1);
  }
  if (ending == FROZEN)
    CHECK_INT(kill(pid, SIGSTOP), ==, 0);
  CHECK_INT(host_discard(host, token), ==, 0);
  int64_t start = now_ms();
  token = pool_get(host->pool, slow(5000));
  int64_t took = now_ms() - start;
  if (ending == FROZEN)
    CHECK_INT(kill(pid, SIGCONT), ==, 0);
  if (ending != CLOSED)
    PQfinish(object);
  CHECK(token && is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  return took;
}

static int64_t until_closed_is_free(void *host) { return until_free(host, CLOSED); }

TEST(a_closed_slot_is_free_when_the_server_has_closed_its_end) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  CHECK_WITHIN(300, 5, until_closed_is_free, host);
  host_end(host);
}

TEST(a_closed_slot_is_free_after_a_second_whatever_the_server_does) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  int64_t took = until_free(host, FROZEN);
  CHECK_INT(took, >=, 900);
  CHECK_INT(took, <=, slow(1500));
  host_end(host);
}

/* A libpq that has dropped a session without a goodbye has closed its socket, and only the pool's duplicate was left. */
TEST(a_slot_is_free_soon_though_nobody_said_goodbye_to_the_server) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  int64_t took = until_free(host, LEFT_OPEN);
  CHECK_INT(took, <=, slow(800));
  host_end(host);
}

/* ------------------------------------------------------------------------------------------ told at the put */

TEST(a_reconnect_closes_lent_objects_when_put) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int pid = host_pid(host, token);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  CHECK(works(host_object(host, token)));
  put_what_must_go(host, token);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(host_pid(host, token) != pid);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_shrink_closes_lent_objects_when_put) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *first = host_get_working(host, POOL_TIMEOUT_DEFAULT), *second = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(first && second);
  CHECK_INT(pool_resize(host->pool, 0, 1), ==, 0);
  put_what_must_go(host, first);
  CHECK_INT(host_put(host, second), ==, 0);
  WAIT_FOR(2000, STAT(host->pool, total) == 1);
  WAIT_FOR(2000, sessions(host->name) == 1);
  host_end(host);
}

TEST(an_expired_loan_is_closed_when_put) {
  pool_options_t options = options_sized(0, 1);
  options.max_lifetime_ms = 200;
  options.lifetime_jitter_percent = 0;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  nap_ms(600); /* the lifetime, and more than the 100 ms of grace after it */
  CHECK(works(host_object(host, token)));
  put_what_must_go(host, token);
  CHECK_INT(STAT(host->pool, expired), ==, 1);
  host_end(host);
}

TEST(a_drain_closes_lent_objects_when_put) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK_INT(pool_drain(host->pool, 50), ==, POOL_ETIMEOUT);
  put_what_must_go(host, token);
  CHECK_INT(pool_drain(host->pool, slow(3000)), ==, 0);
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(sessions(host->name), ==, 0);
  CHECK_INT(pool_resume(host->pool), ==, 0);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_closed_pool_closes_lent_objects_when_put) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT), *other = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token && other);
  CHECK_INT(pool_close(host->pool), ==, 0);
  CHECK_INT(pool_close(host->pool), ==, POOL_ECLOSED);
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put_only(host, token) & POOL_CLOSE, ==, POOL_CLOSE);
  CHECK_INT(host_discard(host, token), ==, 0);
  CHECK_INT(host_discard(host, other), ==, 0); /* lent still: discarded without a put */
  CHECK_INT(pool_put(host->pool, token), ==, POOL_ECLOSED);
  CHECK_INT(host_collect(host, 0), ==, POOL_ECLOSED);
  WAIT_FOR(2000, sessions(host->name) == 0);
  host_free(host);
}

TEST(an_adoption_after_the_close_is_refused) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT), *fresh = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token && fresh);
  CHECK_INT(pool_close(host->pool), ==, 0);
  CHECK_INT(host_adopt(host, fresh), ==, POOL_ECLOSED);
  CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
  CHECK_INT(host_put_only(host, token) & POOL_CLOSE, ==, POOL_CLOSE);
  CHECK_INT(host_discard(host, token), ==, 0);
  WAIT_FOR(2000, sessions(host->name) == 0);
  host_free(host);
}

/* ------------------------------------------------------------------------------------------- while it runs */

TEST(a_reconnect_lends_no_idle_object_of_before) {
  enum { SIZE = 3 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  char moment[64];
  CHECK(sql_text(observer(), moment, sizeof moment, "select clock_timestamp()"));
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  /* With nobody collecting. */
  void *tokens[SIZE];
  for (int i = 0; i < SIZE; i++) {
    tokens[i] = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(tokens[i] != NULL);
    CHECK_INT(sql_number(host_object(host, tokens[i]),
                         "select (backend_start > '%s')::int from pg_stat_activity where pid = pg_backend_pid()", moment),
              ==, 1);
  }
  CHECK_INT(atomic_load(&host->most_open), <=, SIZE);
  for (int i = 0; i < SIZE; i++)
    CHECK_INT(host_put(host, tokens[i]), ==, 0);
  host_end(host);
}

TEST(an_expired_idle_object_is_granted_as_fresh) {
  pool_options_t options = options_sized(0, 1);
  options.max_lifetime_ms = slow(300);
  options.lifetime_jitter_percent = 0;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  host_fill(host, 1);
  WAIT_FOR(3000, STAT(host->pool, expired) == 1);
  CHECK_INT(STAT(host->pool, idle), ==, 0);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  host_put(host, token);
  host_end(host);
}

TEST(idle_objects_above_min_size_are_to_be_closed) {
  pool_options_t options = options_sized(1, 4);
  options.idle_timeout_ms = 200;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  host_fill(host, 4);
  int closed = 0;
  while (closed < 3) {
    int count = host_collect(host, slow(3000));
    REQUIRE_INT(count, >, 0);
    closed += count;
  }
  CHECK_INT(STAT(host->pool, idle_closed), ==, 3);
  /* min_size is kept: twice the timeout. */
  CHECK_INT(host_collect(host, 400), ==, 0);
  CHECK_INT(STAT(host->pool, idle), ==, 1);
  WAIT_FOR(2000, sessions(host->name) == 1);
  host_end(host);
}

TEST(a_put_says_that_there_is_something_to_collect) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *kept = host_get_working(host, POOL_TIMEOUT_DEFAULT), *other = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(kept && other);
  CHECK_INT(host_put(host, other), ==, 0);
  CHECK_INT(pool_resize(host->pool, 0, 1), ==, 0);
  WAIT_FOR(2000, STAT(host->pool, idle) == 0);
  CHECK_INT(host_put_only(host, kept), ==, POOL_COLLECT);
  CHECK_INT(host_collect(host, slow(2000)), ==, 1);
  CHECK_INT(host_put(host, host_get(host, 0)), ==, 0);
  host_end(host);
}

struct draining {
  pool_t *pool;
  atomic_int code;
};

static void *drain(void *argument) {
  struct draining *draining = argument;
  atomic_store(&draining->code, pool_drain(draining->pool, slow(8000)));
  return NULL;
}

TEST(a_drain_ends_when_the_idle_objects_are_collected_and_the_lent_ones_put) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  host_fill(host, 3);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(held != NULL);
  struct draining draining = {.pool = host->pool};
  atomic_store(&draining.code, 1);
  pthread_t thread;
  pthread_create(&thread, NULL, drain, &draining);
  for (int closed = 0; closed < 2;) {
    int count = host_collect(host, slow(3000));
    REQUIRE_INT(count, >, 0);
    closed += count;
  }
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EPAUSED);
  CHECK_INT(atomic_load(&draining.code), ==, 1);
  put_what_must_go(host, held);
  pthread_join(thread, NULL);
  CHECK_INT(atomic_load(&draining.code), ==, 0);
  CHECK_INT(sessions(host->name), ==, 0);
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(pool_resume(host->pool), ==, 0);
  host_fill(host, 2);
  host_end(host);
}

TEST(a_paused_hosted_pool_lends_nothing_and_takes_back) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_pause(host->pool), ==, 0);
  CHECK_INT(STAT(host->pool, paused), ==, 1);
  int64_t start = now_ms();
  CHECK(pool_get(host->pool, 200) == NULL); /* neither an idle one nor a fresh slot */
  CHECK_INT(pool_errcode(), ==, POOL_EPAUSED);
  CHECK_INT(now_ms() - start, >=, 199);
  CHECK_INT(host_put(host, held), ==, 0);
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EPAUSED);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get_wait(host->pool, ticket, 50) == NULL);
  CHECK_INT(pool_resume(host->pool), ==, 0);
  held = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(held != NULL);
  CHECK(!is_fresh(held));
  CHECK_INT(host_put(host, held), ==, 0);
  host_end(host);
}

TEST(growing_serves_those_who_wait_with_fresh_slots) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(8000), &ticket), ==, 0);
  CHECK(pool_get_wait(host->pool, ticket, 20) == NULL);
  CHECK_INT(pool_resize(host->pool, 0, 20), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(host_put(host, held), ==, 0);
  host_fill(host, 20);
  CHECK_INT(STAT(host->pool, total), ==, 20);
  host_end(host);
}
