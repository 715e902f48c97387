/* Who gets a connection, and when a wait ends. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* With equal shares each thread is served as often as any other; measured anew when the machine was disturbed. */
TEST_LIMIT(two_hundred_threads_on_one_connection_are_served_alike, 60) {
  struct load_result best = {.most = -1};
  for (int attempt = 0; attempt < 3; attempt++) {
    pool_t *pool = open_pool(1, 1);
    REQUIRE(pool);
    struct load *load = start_load(pool, scaled(200), 1000);
    nap_ms(slow(4000));
    struct load_result result = stop_load(load);
    CHECK_INT(result.errors, ==, 0);
    CHECK_INT(result.fewest, >, 0);
    close_whole(pool);
    if (best.most < 0 || result.most * best.fewest < best.most * result.fewest)
      best = result;
    if (best.most <= 2 * best.fewest)
      break;
  }
  printf("    loans per thread: %ld to %ld\n", best.fewest, best.most);
  CHECK_INT(best.most, <=, 2 * best.fewest);
}

struct deadline {
  pool_t *pool;
  int timeout_ms;
};

static int64_t time_past_deadline(void *context) {
  struct deadline *deadline = context;
  int64_t start = now_us();
  CHECK(pool_get(deadline->pool, deadline->timeout_ms) == NULL);
  int64_t took = now_us() - start;
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(took, >=, (int64_t)deadline->timeout_ms * 1000 - 1000);
  return took / 1000 - deadline->timeout_ms;
}

TEST_LIMIT(a_wait_ends_within_50_ms_of_its_deadline, 60) {
  static const int timeouts[] = {1, 20, 200, 1000};
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
    struct deadline deadline = {pool, timeouts[i]};
    CHECK_WITHIN(50, 20, time_past_deadline, &deadline);
  }
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

static int64_t time_of_a_try(void *context) {
  int64_t start = now_ms();
  CHECK(pool_get(context, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  return now_ms() - start;
}

TEST(a_try_does_not_wait) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_WITHIN(5, 10, time_of_a_try, pool);
  CHECK_INT(pool_put(pool, held), ==, 0);
  PGconn *conn = get_working(pool, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

struct line {
  pool_t *pool;
  atomic_int served;
};

struct place {
  struct line *line;
  int place;
};

static void *stand_in_line(void *argument) {
  struct place *place = argument;
  void *conn = pool_get(place->line->pool, POOL_TIMEOUT_INFINITE);
  place->place = atomic_fetch_add(&place->line->served, 1);
  CHECK_INT(pool_put(place->line->pool, conn), ==, 0);
  return NULL;
}

TEST(waiters_are_served_first_come_first_served) {
  enum { WAITERS = 30 };
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  struct line line = {.pool = pool};
  struct place places[WAITERS];
  pthread_t threads[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    places[i] = (struct place){&line, -1};
    pthread_create(&threads[i], NULL, stand_in_line, &places[i]);
    WAIT_FOR(5000, STAT(pool, waiting) == i + 1);
  }
  CHECK_INT(pool_put(pool, held), ==, 0);
  for (int i = 0; i < WAITERS; i++) {
    pthread_join(threads[i], NULL);
    CHECK_INT(places[i].place, ==, i);
  }
  close_whole(pool);
}

/* Which of three idle connections is lent first, by order of their return. */
static int first_lent(int queue_mode) {
  pool_options_t options = options_sized(3, 3);
  options.queue_mode = queue_mode;
  pool_t *pool = open_pool_with(&options);
  if (!pool || pool_wait(pool, slow(5000)) != 0)
    return -1;
  void *lent[3];
  for (int i = 0; i < 3; i++)
    lent[i] = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  for (int i = 0; i < 3; i++)
    CHECK_INT(pool_put(pool, lent[i]), ==, 0);
  void *conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  int which = conn == lent[0] ? 0 : conn == lent[1] ? 1 : 2;
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  return which;
}

TEST(lifo_lends_the_last_returned_and_fifo_the_first) {
  CHECK_INT(first_lent(POOL_LIFO), ==, 2);
  CHECK_INT(first_lent(POOL_FIFO), ==, 0);
}

static void *wait_long(void *pool) {
  void *conn = pool_get(pool, POOL_TIMEOUT_INFINITE);
  CHECK(conn != NULL);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return NULL;
}

TEST(more_than_max_waiting_callers_are_refused_at_once) {
  pool_options_t options = options_sized(0, 1);
  options.max_waiting = 2;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    pthread_create(&threads[i], NULL, wait_long, pool);
  WAIT_FOR(5000, STAT(pool, waiting) == 2);
  int64_t start = now_ms();
  CHECK(pool_get(pool, slow(5000)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EFULL);
  CHECK_INT(now_ms() - start, <, slow(500));
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, POOL_EFULL);
  CHECK_INT(STAT(pool, rejected), ==, 2);
  CHECK_INT(pool_put(pool, held), ==, 0);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  close_whole(pool);
}

struct late {
  pool_t *pool;
  int64_t took;
  int code;
};

static void *wait_in_vain(void *argument) {
  struct late *late = argument;
  int64_t start = now_ms();
  void *conn = pool_get(late->pool, slow(500));
  late->took = now_ms() - start;
  late->code = conn ? POOL_OK : pool_errcode();
  return NULL;
}

static void check_all_end_in_time(pool_t *pool, int expected) {
  enum { WAITERS = 30 };
  struct late waiters[WAITERS];
  pthread_t threads[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    waiters[i] = (struct late){.pool = pool};
    pthread_create(&threads[i], NULL, wait_in_vain, &waiters[i]);
  }
  for (int i = 0; i < WAITERS; i++) {
    pthread_join(threads[i], NULL);
    CHECK_INT(waiters[i].code, ==, expected);
    CHECK_INT(waiters[i].took, >=, slow(500) - 1);
    CHECK_INT(waiters[i].took, <, slow(750));
  }
  CHECK_INT(STAT(pool, waiting), ==, 0);
}

TEST(every_waiter_of_an_exhausted_pool_ends_in_time) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  check_all_end_in_time(pool, POOL_ETIMEOUT);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(every_waiter_ends_in_time_while_no_connect_succeeds) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_REFUSE);
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d pool_max_size=3", proxy_port(proxy));
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  check_all_end_in_time(pool, POOL_ECONNECT);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_caller_that_gave_up_leaves_its_connect_to_the_pool) {
  struct proxy *proxy = proxy_start();
  proxy_delay(proxy, 300);
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", proxy_port(proxy));
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  CHECK(pool_get(pool, 100) == NULL);
  WAIT_FOR(5000, STAT(pool, idle) == 1);
  PGconn *conn = get_working(pool, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(proxy_accepted(proxy), ==, 1);
  close_whole(pool);
  proxy_stop(proxy);
}

/* A slow connect of one borrower holds up nobody else. */
static int64_t time_of_get_and_put(void *context) {
  int64_t start = now_ms();
  void *conn = pool_get(context, slow(2000));
  if (!conn)
    return -1;
  CHECK_INT(pool_put(context, conn), ==, 0);
  return now_ms() - start;
}

static void *get_and_put(void *pool) {
  void *conn = pool_get(pool, slow(10000));
  CHECK(conn != NULL);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return NULL;
}

TEST(a_slow_connect_holds_up_nobody_else) {
  struct proxy *proxy = proxy_start();
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d pool_max_size=3", proxy_port(proxy));
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  void *first = get_working(pool, slow(5000)), *second = get_working(pool, slow(5000));
  proxy_delay(proxy, slow(2000));
  pthread_t thread;
  pthread_create(&thread, NULL, get_and_put, pool);
  WAIT_FOR(2000, STAT(pool, connecting) == 1);
  CHECK_INT(pool_put(pool, first), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  CHECK_WITHIN(10, 20, time_of_get_and_put, pool);
  pthread_join(thread, NULL);
  close_whole(pool);
  proxy_stop(proxy);
}
