/* What is collected some time after it was granted, and by whom. The program's own poll() can hold a thread at the look
 * at the socket that pool_get_wait() takes. */
#include "pools.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static _Thread_local bool is_held;
static atomic_bool entered, go;

int poll(struct pollfd *entries, nfds_t count, int ms) {
  if (is_held && ms == 0) {
    atomic_store(&entered, true);
    while (!atomic_load(&go))
      nap_ms(1);
  }
  struct timespec limit = {ms / 1000, (long)(ms % 1000) * 1000000};
  return ppoll(entries, count, ms < 0 ? NULL : &limit, NULL);
}

struct collector {
  pool_t *pool;
  pool_ticket_t ticket;
  void *conn;
  atomic_bool ended;
};

static void *collect_slowly(void *argument) {
  struct collector *collector = argument;
  is_held = true;
  collector->conn = pool_get_wait(collector->pool, collector->ticket, POOL_TIMEOUT_INFINITE);
  if (!collector->conn)
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  atomic_store(&collector->ended, true);
  return NULL;
}

static void put_if_any(pool_t *pool, void *conn) {
  if (conn)
    CHECK_INT(pool_put(pool, conn), ==, 0);
}

/* Both looked at the socket, then both took it: one connection had two owners. */
TEST(two_threads_that_collect_one_ticket_never_own_one_connection) {
  pool_options_t options = options_sized(2, 2);
  options.check = POOL_CHECK_SOCKET;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  struct collector second = {.pool = pool};
  REQUIRE_INT(pool_get_start(pool, slow(20000), &second.ticket), ==, 0);
  pthread_t thread;
  REQUIRE_INT(pthread_create(&thread, NULL, collect_slowly, &second), ==, 0);
  WAIT_FOR(5000, atomic_load(&entered) || atomic_load(&second.ended));
  CHECK(atomic_load(&entered));
  void *first = pool_get_wait(pool, second.ticket, 100);
  if (!first)
    CHECK(pool_errcode() == POOL_PENDING || pool_errcode() == POOL_EINVAL);
  pool_ticket_t other = 0;
  REQUIRE_INT(pool_get_start(pool, slow(20000), &other), ==, 0);
  atomic_store(&go, true);
  pthread_join(thread, NULL);
  CHECK_INT((first != NULL) + (second.conn != NULL), ==, 1);
  void *third = pool_get_wait(pool, other, slow(5000));
  CHECK(third != NULL && third != first && third != second.conn);
  CHECK_INT(STAT(pool, in_use), ==, 2);
  put_if_any(pool, first);
  put_if_any(pool, second.conn);
  put_if_any(pool, third);
  close_whole(pool);
}

/* A ticket that was granted the only connection; its backend in `pid`. */
static bool start_granted(pool_t *pool, pool_ticket_t *ticket, int *pid) {
  PGconn *conn = get_working(pool, slow(5000));
  if (!conn)
    return false;
  *pid = PQbackendPID(conn);
  return CHECK_INT(pool_put(pool, conn), ==, 0) && CHECK_INT(pool_get_start(pool, slow(20000), ticket), ==, 0);
}

static void check_renewed(pool_t *pool, pool_ticket_t ticket, int old) {
  PGconn *conn = pool_get_wait(pool, ticket, POOL_TIMEOUT_INFINITE);
  REQUIRE(conn != NULL);
  CHECK(works(conn));
  CHECK_INT(PQbackendPID(conn), !=, old);
  CHECK_INT(pool_put(pool, conn), ==, 0);
}

/* What had been granted before pool_reconnect() was lent after it. */
TEST(a_granted_ticket_gives_a_new_session_after_reconnect) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (int i = 0; i < 5; i++) {
    pool_ticket_t ticket = 0;
    int old = 0;
    REQUIRE(start_granted(pool, &ticket, &old));
    CHECK_INT(pool_reconnect(pool), ==, 0);
    check_renewed(pool, ticket, old);
  }
  close_whole(pool);
}

/* The watch looked at idle sessions only: one that died between grant and collection was lent. */
TEST(a_granted_ticket_gives_a_live_session_after_the_death_of_its_own) {
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  for (int i = 0; i < 5; i++) {
    pool_ticket_t ticket = 0;
    int old = 0;
    REQUIRE(start_granted(pool, &ticket, &old));
    CHECK_INT(terminate_sessions(options.name), ==, 1);
    observe_ms(slow(50)); /* the time for the watch to notice, which no statistic shows before the collection */
    check_renewed(pool, ticket, old);
    CHECK_INT(STAT(pool, lost), ==, i + 1);
  }
  close_whole(pool);
}

static void try_tickets(pool_t *pool, int rounds, int idle_ms, int collect_after_ms) {
  for (int i = 0; i < rounds; i++) {
    pool_ticket_t ticket = 0;
    nap_ms(idle_ms);
    REQUIRE_INT(pool_get_start(pool, 0, &ticket), ==, 0);
    nap_ms(collect_after_ms);
    void *conn = pool_get_wait(pool, ticket, POOL_TIMEOUT_INFINITE);
    if (!CHECK(conn != NULL))
      fprintf(stderr, "    round %d: %d: %s\n", i, pool_errcode(), pool_errmsg());
    REQUIRE(conn);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
}

/* A try has no time for a ping: the ticket had reached its deadline before the answer. */
TEST(a_try_by_ticket_takes_an_idle_connection_that_a_ping_would_check) {
  pool_options_t options = options_sized(1, 1);
  options.check = POOL_CHECK_PING;
  options.check_after_idle_ms = 20;
  options.exact_times = 1;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  try_tickets(pool, 20, 30, 0);
  CHECK_INT(STAT(pool, checks), ==, 0);
  close_whole(pool);
}

TEST(a_try_by_ticket_takes_a_connection_idle_for_longer_than_the_default) {
  pool_options_t options = options_sized(1, 1);
  options.check = POOL_CHECK_PING;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  try_tickets(pool, 1, 700, 0); /* longer than check_after_idle_ms */
  close_whole(pool);
}

/* The sweep took a try back half a millisecond after it was granted. */
TEST(a_try_by_ticket_can_be_collected_a_little_later) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  try_tickets(pool, 200, 0, 1);
  close_whole(pool);
}
