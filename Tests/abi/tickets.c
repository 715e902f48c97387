/* pool_get in three steps. */
#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

TEST(a_ticket_for_a_free_connection_is_decided_at_once) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, 0);
  CHECK(ticket != 0);
  PGconn *conn = pool_get_wait(pool, ticket, 0);
  CHECK(works(conn));
  CHECK_INT(pool_get_cancel(pool, ticket), ==, POOL_EINVAL);
  CHECK(pool_get_wait(pool, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_wait_that_is_over_leaves_the_ticket_good) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  int64_t start = now_ms();
  CHECK_INT(pool_get_start(pool, slow(10000), &ticket), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(500));
  CHECK(pool_get_wait(pool, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  start = now_ms();
  CHECK(pool_get_wait(pool, ticket, 60) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(now_ms() - start, >=, 59);
  CHECK_INT(STAT(pool, waiting), ==, 1);
  CHECK_INT(pool_put(pool, held), ==, 0);
  PGconn *conn = pool_get_wait(pool, ticket, POOL_TIMEOUT_INFINITE);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_ticket_ends_at_its_deadline) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  int64_t start = now_ms();
  CHECK_INT(pool_get_start(pool, 200, &ticket), ==, 0);
  CHECK(pool_get_wait(pool, ticket, POOL_TIMEOUT_DEFAULT) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(now_ms() - start, >=, 199);
  CHECK_INT(now_ms() - start, <, slow(1000));
  CHECK(pool_get_wait(pool, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(STAT(pool, waiting), ==, 0);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(a_ticket_collected_late_tells_when_it_ended) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, 50, &ticket), ==, 0);
  WAIT_FOR(5000, STAT(pool, waiting) == 0);
  nap_ms(20);
  CHECK(pool_get_wait(pool, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_HAS(pool_errmsg(), "within 50 ms");
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(a_ticket_never_collected_gives_its_connection_back) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, 200, &ticket), ==, 0);
  WAIT_FOR(2000, STAT(pool, cancels) == 1);
  WAIT_FOR(2000, STAT(pool, idle) == 1);
  CHECK_INT(STAT(pool, in_use), ==, 0);
  CHECK(pool_get_wait(pool, ticket, 0) == NULL);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

struct waiting {
  pool_t *pool;
  pool_ticket_t ticket;
  void *conn;
  int code;
};

static void *wait_for_ticket(void *argument) {
  struct waiting *waiting = argument;
  waiting->conn = pool_get_wait(waiting->pool, waiting->ticket, POOL_TIMEOUT_INFINITE);
  waiting->code = waiting->conn ? POOL_OK : pool_errcode();
  return NULL;
}

TEST(a_cancel_from_another_thread_ends_the_wait) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  struct waiting waiting = {.pool = pool};
  CHECK_INT(pool_get_start(pool, POOL_TIMEOUT_INFINITE, &waiting.ticket), ==, 0);
  pthread_t thread;
  pthread_create(&thread, NULL, wait_for_ticket, &waiting);
  nap_ms(30); /* so that it mostly waits already; right either way */
  CHECK_INT(pool_get_cancel(pool, waiting.ticket), ==, 0);
  pthread_join(thread, NULL);
  CHECK(waiting.conn == NULL);
  CHECK(waiting.code == POOL_ECANCELED || waiting.code == POOL_EINVAL);
  CHECK_INT(pool_get_cancel(pool, waiting.ticket), ==, POOL_EINVAL);
  CHECK_INT(STAT(pool, waiting), ==, 0);
  CHECK_INT(STAT(pool, cancels), ==, 1);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(a_connection_granted_to_a_cancelled_ticket_goes_to_the_next) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t first = 0, second = 0;
  CHECK_INT(pool_get_start(pool, slow(10000), &first), ==, 0);
  CHECK_INT(pool_get_start(pool, slow(10000), &second), ==, 0);
  CHECK_INT(pool_put(pool, held), ==, 0);
  CHECK(pool_get_wait(pool, second, 20) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(pool_get_cancel(pool, first), ==, 0);
  PGconn *conn = pool_get_wait(pool, second, POOL_TIMEOUT_DEFAULT);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(tickets_are_served_in_the_order_of_their_start) {
  enum { TICKETS = 20 };
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t tickets[TICKETS];
  for (int i = 0; i < TICKETS; i++)
    CHECK_INT(pool_get_start(pool, slow(10000), &tickets[i]), ==, 0);
  for (int i = 0; i < TICKETS; i++) {
    CHECK_INT(pool_put(pool, conn), ==, 0);
    for (int later = i + 1; later < TICKETS; later++)
      CHECK(pool_get_wait(pool, tickets[later], 0) == NULL);
    conn = pool_get_wait(pool, tickets[i], POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn != NULL);
  }
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(tickets_are_never_zero_and_never_twice_the_same) {
  enum { TICKETS = 500 };
  static pool_ticket_t seen[TICKETS];
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  for (int i = 0; i < TICKETS; i++) {
    CHECK_INT(pool_get_start(pool, slow(10000), &seen[i]), ==, 0);
    CHECK(seen[i] != 0);
    for (int j = 0; j < i; j++)
      if (seen[i] == seen[j])
        CHECK(seen[i] != seen[j]);
    CHECK_INT(pool_get_cancel(pool, seen[i]), ==, 0);
  }
  close_whole(pool);
}

TEST(many_tickets_can_be_open_at_once) {
  int count = scaled(5000);
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t *tickets = calloc((size_t)count, sizeof *tickets);
  REQUIRE(tickets != NULL);
  for (int i = 0; i < count; i++)
    REQUIRE_INT(pool_get_start(pool, slow(20000), &tickets[i]), ==, 0);
  CHECK_INT(STAT(pool, waiting), ==, count);
  for (int i = 0; i < count; i += 2)
    CHECK_INT(pool_get_cancel(pool, tickets[i]), ==, 0);
  CHECK_INT(STAT(pool, waiting), ==, count / 2);
  CHECK_INT(pool_close(pool), ==, 0);
  for (int i = 1; i < count; i += 2) {
    CHECK(pool_get_wait(pool, tickets[i], POOL_TIMEOUT_INFINITE) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
  }
  CHECK_INT(pool_put(pool, held), ==, 0);
  free(tickets);
}

TEST(two_threads_on_one_ticket_get_one_connection) {
  for (int round = 0; round < scaled(100); round++) {
    pool_t *pool = open_pool(0, 1);
    REQUIRE(pool);
    PGconn *held = pool_get(pool, POOL_TIMEOUT_DEFAULT);
    struct waiting both[2] = {{.pool = pool}, {.pool = pool}};
    CHECK_INT(pool_get_start(pool, slow(5000), &both[0].ticket), ==, 0);
    both[1].ticket = both[0].ticket;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
      pthread_create(&threads[i], NULL, wait_for_ticket, &both[i]);
    CHECK_INT(pool_put(pool, held), ==, 0);
    for (int i = 0; i < 2; i++)
      pthread_join(threads[i], NULL);
    CHECK_INT((both[0].conn != NULL) + (both[1].conn != NULL), ==, 1);
    void *conn = both[0].conn ? both[0].conn : both[1].conn;
    CHECK_INT(pool_put(pool, conn), ==, 0);
    close_whole(pool);
  }
}

TEST(a_try_by_ticket_ends_at_once) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  int code = pool_get_start(pool, 0, &ticket);
  if (code == 0) {
    CHECK(pool_get_wait(pool, ticket, POOL_TIMEOUT_INFINITE) == NULL);
    code = pool_errcode();
  }
  CHECK_INT(code, ==, POOL_ETIMEOUT);
  CHECK_INT(STAT(pool, waiting), ==, 0);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

/* Waiters that give up at the instant of the hand-over: no slot may be lost and none have two owners. */
struct race {
  pool_t *pool;
  atomic_int *owners;
  unsigned seed;
  int rounds;
};

static void own(struct race *race, void *conn) {
  CHECK_INT(atomic_fetch_add(race->owners, 1), <, 2);
  atomic_fetch_sub(race->owners, 1);
  CHECK_INT(pool_put(race->pool, conn), ==, 0);
}

static void *race_for_tickets(void *argument) {
  struct race *race = argument;
  for (int i = 0; i < race->rounds; i++) {
    pool_ticket_t ticket = 0;
    int choice = rand_r(&race->seed) % 4;
    if (!CHECK_INT(pool_get_start(race->pool, choice == 3 ? 1 : slow(10000), &ticket), ==, 0))
      break;
    void *conn = choice == 0 ? NULL : pool_get_wait(race->pool, ticket, choice == 1 ? 0 : choice == 2 ? 1 : POOL_TIMEOUT_DEFAULT);
    if (conn)
      own(race, conn);
    else if (choice < 3 && pool_get_cancel(race->pool, ticket) != 0)
      CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  }
  return NULL;
}

TEST_LIMIT(giving_up_at_the_hand_over_loses_nothing, 60) {
  enum { THREADS = 8 };
  pool_t *pool = open_pool(2, 2);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  atomic_int owners = 0;
  struct race races[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    races[i] = (struct race){pool, &owners, (unsigned)i + 1, scaled(4000)};
    pthread_create(&threads[i], NULL, race_for_tickets, &races[i]);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  WAIT_FOR(3000, STAT(pool, idle) == 2);
  CHECK_INT(STAT(pool, total), ==, 2);
  CHECK_INT(STAT(pool, gets), ==, STAT(pool, puts));
  close_whole(pool);
}
