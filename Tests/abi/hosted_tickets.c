/* pool_get in three steps on a hosted pool; who waits is served in turn, also with fresh slots. */
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static bool is_fresh(void *token) { return POOL_TOKEN_FLAGS(token) & POOL_FRESH; }

TEST(a_ticket_brings_a_fresh_slot) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK(pool_get_wait(host->pool, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  token = pool_get_wait(host->pool, ticket, 0);
  REQUIRE(token != NULL);
  CHECK(!is_fresh(token));
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_fresh_slot_never_collected_is_given_back) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, 200, &ticket), ==, 0);
  WAIT_FOR(3000, STAT(host->pool, cancels) == 1);
  CHECK_INT(STAT(host->pool, total), ==, 0);
  CHECK_INT(STAT(host->pool, connecting), ==, 0);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 0);
  CHECK_INT(STAT(host->pool, opened), ==, 0);
  CHECK(pool_get_wait(host->pool, ticket, 0) == NULL);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_fresh_slot_of_a_cancelled_ticket_goes_to_the_next) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t first = 0, second = 0;
  CHECK_INT(pool_get_start(host->pool, slow(10000), &first), ==, 0);
  CHECK_INT(pool_get_start(host->pool, slow(10000), &second), ==, 0);
  CHECK(pool_get_wait(host->pool, second, 50) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(pool_get_cancel(host->pool, first), ==, 0);
  void *token = pool_get_wait(host->pool, second, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(STAT(host->pool, connect_failures), ==, 0);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_fresh_slot_of_an_expired_ticket_goes_to_the_next) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t first = 0, second = 0;
  CHECK_INT(pool_get_start(host->pool, 100, &first), ==, 0);
  CHECK_INT(pool_get_start(host->pool, slow(10000), &second), ==, 0);
  void *token = pool_get_wait(host->pool, second, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK(pool_get_wait(host->pool, first, 0) == NULL);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(an_open_object_of_a_cancelled_ticket_goes_to_the_next) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t first = 0, second = 0;
  CHECK_INT(pool_get_start(host->pool, slow(10000), &first), ==, 0);
  CHECK_INT(pool_get_start(host->pool, slow(10000), &second), ==, 0);
  CHECK_INT(host_put(host, held), ==, 0);
  CHECK_INT(pool_get_cancel(host->pool, first), ==, 0);
  void *token = pool_get_wait(host->pool, second, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(!is_fresh(token));
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(hosted_tickets_are_served_in_the_order_of_their_start) {
  enum { TICKETS = 20 };
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  pool_ticket_t tickets[TICKETS];
  for (int i = 0; i < TICKETS; i++)
    CHECK_INT(pool_get_start(host->pool, slow(20000), &tickets[i]), ==, 0);
  for (int i = 0; i < TICKETS; i++) {
    /* Each fifth time the object is broken: the turn does not change. */
    CHECK_INT(i % 5 == 4 ? host_discard(host, token) : host_put(host, token), ==, 0);
    token = pool_get_wait(host->pool, tickets[i], POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    CHECK_INT(is_fresh(token), ==, i % 5 == 4);
    REQUIRE(host_take(host, token) != NULL);
    for (int later = i + 1; later < TICKETS; later++)
      CHECK(pool_get_wait(host->pool, tickets[later], 0) == NULL);
  }
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

struct turn {
  struct host *host;
  atomic_int *served;
  int number;
};

static void *wait_for_turn(void *argument) {
  struct turn *turn = argument;
  void *token = host_get(turn->host, slow(20000));
  if (CHECK(token != NULL)) {
    CHECK_INT(atomic_fetch_add(turn->served, 1), ==, turn->number);
    CHECK_INT(host_put(turn->host, token), ==, 0);
  }
  return NULL;
}

TEST(threads_are_served_in_the_order_in_which_they_came) {
  enum { THREADS = 20 };
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  atomic_int served = 0;
  struct turn turns[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    turns[i] = (struct turn){host, &served, i};
    pthread_create(&threads[i], NULL, wait_for_turn, &turns[i]);
    WAIT_FOR(3000, STAT(host->pool, waiting) == i + 1);
  }
  CHECK_INT(host_put(host, held), ==, 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(atomic_load(&served), ==, THREADS);
  host_end(host);
}

TEST(a_try_by_ticket_brings_a_fresh_slot) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, 0, &ticket), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, 0);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  pool_ticket_t second = 0;
  int code = pool_get_start(host->pool, 0, &second);
  if (code == 0) {
    CHECK(pool_get_wait(host->pool, second, POOL_TIMEOUT_INFINITE) == NULL);
    code = pool_errcode();
  }
  CHECK(code == POOL_ETIMEOUT || code == POOL_ECONNECT);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(max_waiting_holds_for_a_hosted_pool) {
  pool_options_t options = options_sized(0, 1);
  options.max_waiting = 1;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  void *held = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get(host->pool, 50) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EFULL);
  CHECK_INT(STAT(host->pool, rejected), ==, 1);
  CHECK_INT(pool_get_cancel(host->pool, ticket), ==, 0);
  CHECK_INT(host_put(host, held), ==, 0);
  host_end(host);
}

/* Givers-up at the instant of a grant, of open and of fresh slots: none may be lost and none have two owners (that is
 * checked at each step of the host). */
struct race {
  struct host *host;
  unsigned seed;
  int rounds;
};

static void race_for_tickets(struct race *race) {
  pool_t *pool = race->host->pool;
  for (int i = 0; i < race->rounds; i++) {
    pool_ticket_t ticket = 0;
    int choice = rand_r(&race->seed) % 4;
    if (!CHECK_INT(pool_get_start(pool, choice == 3 ? 1 : slow(10000), &ticket), ==, 0))
      break;
    void *token = choice == 0 ? NULL : pool_get_wait(pool, ticket, choice == 1 ? 0 : choice == 2 ? 1 : POOL_TIMEOUT_DEFAULT);
    if (token) {
      REQUIRE(host_take(race->host, token) != NULL);
      CHECK_INT(rand_r(&race->seed) % 8 == 0 ? host_discard(race->host, token) : host_put(race->host, token), ==, 0);
    } else if (choice < 3 && pool_get_cancel(pool, ticket) != 0) {
      CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    }
  }
}

static void *race_and_return(void *argument) {
  race_for_tickets(argument);
  return NULL;
}

TEST_LIMIT(giving_up_at_a_fresh_grant_loses_nothing, 90) {
  enum { THREADS = 6 };
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  struct race races[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    races[i] = (struct race){host, (unsigned)i + 1, scaled(600)};
    pthread_create(&threads[i], NULL, race_and_return, &races[i]);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  WAIT_FOR(3000, STAT(host->pool, connecting) == 0 && STAT(host->pool, in_use) == 0);
  CHECK_INT(atomic_load(&host->most_open), <=, 2);
  CHECK_INT(STAT(host->pool, gets), ==, STAT(host->pool, puts));
  host_fill(host, 2);
  host_end(host);
}
