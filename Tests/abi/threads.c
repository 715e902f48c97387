/* Many threads, small stacks, cancelled threads. */
#include "pools.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef POOL_TEST_TSAN
#define STACK_SIZE (1024 * 1024) /* the sanitizer's own frames are large */
#else
#define STACK_SIZE (64 * 1024)
#endif

static pthread_attr_t small_stack(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK_INT(pthread_attr_setstacksize(&attributes, STACK_SIZE), ==, 0);
  return attributes;
}

enum { HOLD_MS = 1, ROUNDS = 3, BYTES_PER_WAITER = 1024 };

struct crowd {
  pool_t *pool;
  pthread_barrier_t gate;
  atomic_int owners;
  atomic_int served;
  _Atomic int64_t opened; /* when the connection that all wait for was put */
  _Atomic int64_t held_us;
  _Atomic int64_t longest_us;
  _Atomic int64_t most_before; /* loans of others while one waited */
};

static void raise_to(_Atomic int64_t *most, int64_t value) {
  int64_t known = atomic_load(most);
  while (value > known && !atomic_compare_exchange_weak(most, &known, value))
    continue;
}

static void *borrow_alone(void *argument) {
  struct crowd *crowd = argument;
  void *volatile some = malloc(1);
  free(some); /* what the allocator has for a thread is there before anybody counts */
  pthread_barrier_wait(&crowd->gate);
  pthread_barrier_wait(&crowd->gate);
  for (int i = 0; i < ROUNDS; i++) {
    int64_t asked = now_us(), served = atomic_load(&crowd->served);
    void *conn = pool_get(crowd->pool, slow(60000));
    int64_t got = now_us();
    if (!CHECK(conn != NULL))
      continue;
    int64_t opened = atomic_load(&crowd->opened);
    raise_to(&crowd->longest_us, got - (asked > opened ? asked : opened));
    raise_to(&crowd->most_before, atomic_load(&crowd->served) - served);
    CHECK_INT(atomic_fetch_add(&crowd->owners, 1), ==, 0);
    nap_ms(HOLD_MS);
    atomic_fetch_sub(&crowd->owners, 1);
    atomic_fetch_add(&crowd->held_us, now_us() - got);
    CHECK_INT(pool_put(crowd->pool, conn), ==, 0);
    atomic_fetch_add(&crowd->served, 1);
  }
  return NULL;
}

static size_t bytes_in_use(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/* All that comes into use while they join the queue is the library's. */
static void check_memory_of_waiters(size_t before, int count) {
  size_t each = (bytes_in_use() - before) / (size_t)count;
  printf("    %zu bytes for a waiter\n", each);
  if (!is_slow_run()) /* a tool's allocator does not tell */
    CHECK_INT(each, <=, BYTES_PER_WAITER);
}

/* First come, first served: before somebody's turn are those that waited already, hardly more. In time it may be thrice
 * that; how long a loan was is measured, and how late the machine wakes whom it is handed to. */
static bool is_in_time(struct crowd *crowd, int count, int64_t late_us) {
  int64_t hold_us = atomic_load(&crowd->held_us) / atomic_load(&crowd->served);
  int64_t longest_us = atomic_load(&crowd->longest_us), before = atomic_load(&crowd->most_before);
  printf("    loans of %jd us, woken late by %jd us, the longest wait %jd ms and %jd loans\n", (intmax_t)hold_us,
         (intmax_t)late_us, (intmax_t)longest_us / 1000, (intmax_t)before);
  CHECK_INT(before, <=, count + count / 10 + 5);
  return longest_us <= 3 * count * (hold_us + late_us);
}

static void share_one_connection(int count, bool *in_time) {
  struct crowd crowd = {.pool = open_pool(1, 1)};
  REQUIRE(crowd.pool);
  REQUIRE_INT(pool_wait(crowd.pool, slow(5000)), ==, 0);
  PGconn *held = get_working(crowd.pool, POOL_TIMEOUT_DEFAULT);
  if (!is_slow_run()) /* a tool has threads of its own, one or two */
    WAIT_FOR(5000, running_threads() <= resting_threads());
  int threads_before = running_threads();
  pthread_t *threads = calloc((size_t)count, sizeof *threads);
  REQUIRE(threads != NULL);
  pthread_attr_t attributes = small_stack();
  pthread_barrier_init(&crowd.gate, NULL, (unsigned)count + 1);
  for (int i = 0; i < count; i++)
    REQUIRE_INT(pthread_create(&threads[i], &attributes, borrow_alone, &crowd), ==, 0);
  pthread_barrier_wait(&crowd.gate);
  size_t bytes = bytes_in_use();
  pthread_barrier_wait(&crowd.gate);
  WAIT_FOR(20000, STAT(crowd.pool, waiting) == count);
  check_memory_of_waiters(bytes, count);
  CHECK_INT(running_threads(), <=, threads_before + count); /* the library has none for a waiter */
  atomic_store(&crowd.opened, now_us());
  CHECK_INT(pool_put(crowd.pool, held), ==, 0);
  int64_t late_us = 0, naps = 0;
  for (int64_t end = now_ms() + slow(60000); atomic_load(&crowd.served) < ROUNDS * count && now_ms() < end; naps++)
    late_us += nap_late_us(10);
  for (int i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(atomic_load(&crowd.served), ==, ROUNDS * count);
  *in_time = is_in_time(&crowd, count, naps > 0 ? late_us / naps : 0);
  pthread_attr_destroy(&attributes);
  pthread_barrier_destroy(&crowd.gate);
  free(threads);
  close_whole(crowd.pool);
}

/* The machine can only make a wait longer: one time out of three is to be in time, and every time in order. */
TEST_LIMIT(a_thousand_threads_of_small_stack_share_one_connection, 120) {
  bool in_time = false;
  for (int i = 0; i < 3 && !in_time; i++)
    share_one_connection(scaled(1000), &in_time);
  CHECK(in_time);
}

/* Every function from a small stack, with errors whose messages are long. */
static void *call_everything(void *argument) {
  (void)argument;
  char name[POOL_NAME_LIMIT + 1];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = 0;
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  options.max_size = 2;
  pool_t *pool = open_pool_with(&options);
  if (!pool)
    return NULL;
  PGconn *conn = pool_get(pool, slow(5000));
  CHECK(conn != NULL);
  pool_stats_t stats = {.size = sizeof stats};
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, 0);
  CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  CHECK_INT(pool_pause(pool), ==, 0);
  CHECK(pool_get(pool, 1) == NULL);
  CHECK_INT(pool_resume(pool), ==, 0);
  CHECK_INT(pool_resize(pool, 1, 50), ==, 0);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(pool_discard(pool, conn), ==, 0);
  CHECK_INT(pool_reconnect(pool), ==, 0);
  CHECK_INT(pool_drain(pool, slow(5000)), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK(pool_create("pool_max_size=x no_such_keyword=1", NULL) == NULL);
  CHECK(pool_create("postgresql://u:p@h:1,h2:2/db?pool_check=wrong", NULL) == NULL);
  return NULL;
}

TEST(a_small_stack_is_enough_for_every_function) {
  pthread_attr_t attributes = small_stack();
  pthread_t thread;
  REQUIRE_INT(pthread_create(&thread, &attributes, call_everything, NULL), ==, 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
}

struct cancelled {
  pool_t *pool;
  void *conn;
  atomic_int started;
  atomic_int returned;
};

static void give_back(void *argument) {
  struct cancelled *cancelled = argument;
  if (cancelled->conn)
    CHECK_INT(pool_put(cancelled->pool, cancelled->conn), ==, 0);
}

static void *get_until_cancelled(void *argument) {
  struct cancelled *cancelled = argument;
  pthread_cleanup_push(give_back, cancelled);
  atomic_store(&cancelled->started, 1);
  for (;;) {
    cancelled->conn = pool_get(cancelled->pool, slow(5000));
    atomic_store(&cancelled->returned, 1);
    pthread_testcancel();
    if (cancelled->conn) {
      void *conn = cancelled->conn;
      cancelled->conn = NULL;
      CHECK_INT(pool_put(cancelled->pool, conn), ==, 0);
    }
  }
  pthread_cleanup_pop(0);
}

TEST(a_cancelled_thread_loses_no_connection) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  for (int round = 0; round < scaled(200); round++) {
    struct cancelled threads_data[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
      threads_data[i] = (struct cancelled){.pool = pool};
      REQUIRE_INT(pthread_create(&threads[i], NULL, get_until_cancelled, &threads_data[i]), ==, 0);
    }
    for (int i = 0; i < 3; i++) {
      WAIT_FOR(2000, atomic_load(&threads_data[i].started));
      CHECK_INT(pthread_cancel(threads[i]), ==, 0);
    }
    for (int i = 0; i < 3; i++)
      pthread_join(threads[i], NULL);
  }
  CHECK_INT(STAT(pool, in_use), ==, 0);
  CHECK_INT(STAT(pool, waiting), ==, 0);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_cancel_during_a_wait_takes_effect_after_it) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  struct cancelled cancelled = {.pool = pool};
  pthread_t thread;
  REQUIRE_INT(pthread_create(&thread, NULL, get_until_cancelled, &cancelled), ==, 0);
  WAIT_FOR(2000, STAT(pool, waiting) == 1);
  CHECK_INT(pthread_cancel(thread), ==, 0);
  /* Cancellation is held off inside: the wait goes on for as long as we look. */
  observe_ms(100);
  CHECK_INT(STAT(pool, waiting), ==, 1);
  CHECK_INT(atomic_load(&cancelled.returned), ==, 0);
  CHECK_INT(pool_put(pool, held), ==, 0);
  pthread_join(thread, NULL);
  CHECK_INT(atomic_load(&cancelled.returned), ==, 1);
  close_whole(pool);
}

/* Everything at once: what the thread sanitizer and valgrind are to see. */
struct mix {
  pool_t *pool;
  unsigned seed;
  int rounds;
};

static void do_something(struct mix *mix) {
  pool_stats_t stats = {.size = sizeof stats};
  pool_ticket_t ticket = 0;
  void *conn = NULL;
  switch (rand_r(&mix->seed) % 12) {
  case 0:
    CHECK_INT(pool_stats(mix->pool, &stats), ==, 0);
    CHECK_INT(stats.total, ==, stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing);
    break;
  case 1:
    if (pool_get_start(mix->pool, 5, &ticket) == 0 && rand_r(&mix->seed) % 2)
      pool_get_cancel(mix->pool, ticket);
    break;
  case 2:
    if (pool_get_start(mix->pool, slow(2000), &ticket) == 0)
      conn = pool_get_wait(mix->pool, ticket, POOL_TIMEOUT_DEFAULT);
    break;
  case 3:
    if (rand_r(&mix->seed) % 8 == 0)
      CHECK_INT(pool_resize(mix->pool, 0, 3 + rand_r(&mix->seed) % 4), ==, 0);
    break;
  case 4:
    if (rand_r(&mix->seed) % 30 == 0)
      CHECK_INT(pool_reconnect(mix->pool), ==, 0);
    break;
  case 5:
    conn = pool_get(mix->pool, slow(2000));
    if (conn && rand_r(&mix->seed) % 8 == 0) {
      CHECK_INT(pool_discard(mix->pool, conn), ==, 0);
      conn = NULL;
    }
    break;
  case 6:
    conn = pool_get(mix->pool, slow(2000));
    if (conn)
      PQclear(PQexec(conn, "begin"));
    break;
  default:
    conn = pool_get(mix->pool, rand_r(&mix->seed) % 3);
  }
  if (conn)
    CHECK_INT(pool_put(mix->pool, conn), ==, 0);
}

static void *do_many_things(void *argument) {
  struct mix *mix = argument;
  for (int i = 0; i < mix->rounds; i++)
    do_something(mix);
  return NULL;
}

TEST_LIMIT(a_mix_of_all_calls_leaves_the_pool_whole, 60) {
  enum { THREADS = 10 };
  pool_options_t options = options_sized(0, 4);
  options.max_lifetime_ms = 500;
  options.check = POOL_CHECK_PING;
  options.check_after_idle_ms = 1;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  struct mix mixes[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    mixes[i] = (struct mix){pool, (unsigned)i + 1, scaled(1500)};
    pthread_create(&threads[i], NULL, do_many_things, &mixes[i]);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(pool_resize(pool, 2, 4), ==, 0);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  WAIT_FOR(3000, STAT(pool, waiting) == 0 && STAT(pool, in_use) == 0 && STAT(pool, resetting) == 0);
  PGconn *conns[4];
  for (int i = 0; i < 4; i++)
    conns[i] = get_working(pool, slow(5000));
  for (int i = 0; i < 4; i++)
    CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  WAIT_FOR(3000, sessions(options.name) <= 4);
  close_whole(pool);
}

static void *use_until_closed(void *pool) {
  for (;;) {
    void *conn = pool_get(pool, slow(5000));
    if (!conn) {
      CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
      return NULL;
    }
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
}

TEST(closing_a_pool_in_full_use_ends_its_users) {
  enum { THREADS = 16 };
  for (int round = 0; round < scaled(30); round++) {
    pool_options_t options = options_sized(2, 4);
    pool_t *pool = open_pool_with(&options);
    REQUIRE(pool);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
      pthread_create(&threads[i], NULL, use_until_closed, pool);
    WAIT_FOR(5000, STAT(pool, gets) > 50);
    CHECK_INT(pool_close(pool), ==, 0);
    for (int i = 0; i < THREADS; i++)
      pthread_join(threads[i], NULL);
    WAIT_FOR(3000, sessions(options.name) == 0);
  }
}
