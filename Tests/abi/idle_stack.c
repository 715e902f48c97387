/* Connections that are lent and put without the pool's lock: order, limits, statistics, and what must be seen at once. */
#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MOST = 300 };

static pool_t *filled_pool(int size) {
  pool_t *pool = open_pool(size, size);
  if (pool != NULL) CHECK_INT(pool_wait(pool, slow(60000)), ==, 0);
  return pool;
}

/* More than the stack has room for, so a part of them comes from the state machine. */
TEST(the_last_used_of_many_is_lent_first) {
  enum { COUNT = 20 };
  pool_t *pool = filled_pool(COUNT);
  REQUIRE(pool);
  void *order[COUNT];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < COUNT; i++) REQUIRE((order[i] = pool_get(pool, 0)) != NULL);
    for (int i = 0; i < COUNT; i++) CHECK_INT(pool_put(pool, order[i]), ==, 0);
    /* The upkeep thread takes all of them off the stack about now in one of the rounds: the order stays. */
    if (round == 1) observe_ms(250);
    for (int i = COUNT - 1; i >= 0; i--) CHECK(pool_get(pool, 0) == order[i]);
    for (int i = 0; i < COUNT; i++) CHECK_INT(pool_put(pool, order[i]), ==, 0);
  }
  close_whole(pool);
}

TEST(a_pool_of_more_slots_than_seats_works) {
  pool_options_t options = options_sized(0, MOST);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  /* The server has no room for so many: a few, of which some have no seat once the first slots are in use. */
  void *conns[30];
  for (int i = 0; i < 30; i++) REQUIRE((conns[i] = get_working(pool, slow(20000))) != NULL);
  for (int i = 0; i < 30; i++) CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  for (int i = 0; i < 1000; i++) CHECK_INT(pool_put(pool, pool_get(pool, slow(5000))), ==, 0);
  close_whole(pool);
}

/* A pool that grew wrote the seats of all its sessions anew, beside those who put them without the lock, and lost sight of
 * the table that it had before: what the sanitizers and valgrind see. */
TEST(a_pool_grows_under_load) {
  pool_t *pool = filled_pool(4);
  REQUIRE(pool);
  struct load *load = start_load(pool, 3, 0);
  for (int size = 4; size < MOST; size += 20) {
    CHECK_INT(pool_resize(pool, 4, size), ==, 0);
    long loans = load_loans(load);
    WAIT_FOR(5000, load_loans(load) > loans + 100);
  }
  CHECK_INT(stop_load(load).errors, ==, 0);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  close_whole(pool);
}

TEST(put_twice_is_refused_wherever_it_lies) {
  pool_t *pool = filled_pool(10);
  REQUIRE(pool);
  void *conns[10];
  for (int i = 0; i < 10; i++) REQUIRE((conns[i] = pool_get(pool, 0)) != NULL);
  for (int i = 0; i < 10; i++) {
    CHECK_INT(pool_put(pool, conns[i]), ==, 0);
    CHECK_INT(pool_put(pool, conns[i]), ==, POOL_ENOTLEASED);
    CHECK_INT(pool_discard(pool, conns[i]), ==, POOL_ENOTLEASED);
  }
  CHECK_INT(STAT(pool, idle), ==, 10);
  close_whole(pool);
}

struct duel {
  pool_t *pool;
  pthread_barrier_t ready, done;
  void *conn;
  atomic_int accepted, refused, others;
  int rounds;
};

static void *put_it(void *context) {
  struct duel *duel = context;
  for (int i = 0; i < duel->rounds; i++) {
    pthread_barrier_wait(&duel->ready);
    int code = pool_put(duel->pool, duel->conn);
    /* Foreign: it was broken, and is closed already. */
    bool is_refused = code == POOL_ENOTLEASED || code == POOL_EFOREIGN;
    atomic_fetch_add(code == 0 ? &duel->accepted : is_refused ? &duel->refused : &duel->others, 1);
    pthread_barrier_wait(&duel->done);
  }
  return NULL;
}

TEST_LIMIT(of_three_threads_that_put_the_same_connection_one_does, 60) {
  struct duel duel = {.pool = filled_pool(2), .rounds = scaled(3000)};
  REQUIRE(duel.pool);
  pthread_barrier_init(&duel.ready, NULL, 4);
  pthread_barrier_init(&duel.done, NULL, 4);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, put_it, &duel);
  for (int i = 0; i < duel.rounds; i++) {
    duel.conn = pool_get(duel.pool, 1000);
    if (!CHECK(duel.conn != NULL)) break;
    /* Now and then in a state that the upkeep thread has to end, and frees. */
    if (i % 50 == 0) PQclear(PQexec(duel.conn, "begin"));
    if (i % 100 == 1) (void)!PQsendQuery(duel.conn, "select 1");
    pthread_barrier_wait(&duel.ready);
    pthread_barrier_wait(&duel.done);
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  CHECK_INT(duel.accepted, ==, duel.rounds);
  CHECK_INT(duel.refused, ==, 2 * duel.rounds);
  CHECK_INT(duel.others, ==, 0);
  close_whole(duel.pool);
}

TEST(statistics_are_one_consistent_copy_under_load) {
  pool_t *pool = filled_pool(6);
  REQUIRE(pool);
  struct load *load = start_load(pool, 4, 0);
  pool_stats_t last = {.size = sizeof last};
  int odd = 0;
  for (int i = 0; i < scaled(5000); i++) {
    pool_stats_t stats = {.size = sizeof stats};
    if (pool_stats(pool, &stats) != 0) odd++;
    if ((int64_t)(stats.gets - stats.puts) != stats.in_use || stats.gets < last.gets || stats.puts < last.puts ||
        stats.idle + stats.in_use + stats.resetting + stats.closing + stats.connecting != stats.total ||
        stats.in_use > 4)
      odd++;
    last = stats;
  }
  struct load_result result = stop_load(load);
  CHECK_INT(odd, ==, 0);
  CHECK_INT(result.errors, ==, 0);
  CHECK_INT(STAT(pool, gets), ==, result.loans);
  CHECK_INT(STAT(pool, puts), ==, result.loans);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  close_whole(pool);
}

/* What is put while all are renewed must not be lent again, whoever is faster. */
TEST(no_old_connection_is_lent_after_a_reconnect_under_load) {
  pool_t *pool = filled_pool(4);
  REQUIRE(pool);
  struct load *load = start_load(pool, 3, 0);
  for (int round = 0; round < scaled(20); round++) {
    void *mine = pool_get(pool, slow(5000));
    REQUIRE(mine != NULL);
    int pid = PQbackendPID(mine);
    uint64_t opened = (uint64_t)STAT(pool, opened);
    CHECK_INT(pool_reconnect(pool), ==, 0);
    CHECK_INT(pool_put(pool, mine), ==, 0);
    for (int i = 0; i < 20; i++) {
      void *conn = pool_get(pool, slow(5000));
      if (!CHECK(conn != NULL)) break;
      CHECK(PQbackendPID(conn) != pid);
      CHECK_INT(pool_put(pool, conn), ==, 0);
    }
    CHECK_INT(STAT(pool, opened), >, opened);
  }
  CHECK_INT(stop_load(load).errors, ==, 0);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  close_whole(pool);
}

TEST(a_pause_holds_at_once) {
  pool_t *pool = filled_pool(3);
  REQUIRE(pool);
  void *conn = pool_get(pool, 0);
  REQUIRE(conn != NULL);
  for (int i = 0; i < 100; i++) {
    CHECK_INT(pool_pause(pool), ==, 0);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    CHECK(pool_get(pool, 0) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_EPAUSED);
    CHECK_INT(pool_resume(pool), ==, 0);
    REQUIRE((conn = pool_get(pool, 0)) != NULL);
  }
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(those_killed_while_they_lie_idle_are_not_lent) {
  pool_options_t options = options_sized(5, 5);
  options.name = "stack-kills";
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(10000)), ==, 0);
  for (int round = 0; round < 5; round++) {
    void *conns[5];
    for (int i = 0; i < 5; i++) REQUIRE((conns[i] = get_working(pool, slow(5000))) != NULL);
    for (int i = 0; i < 5; i++) CHECK_INT(pool_put(pool, conns[i]), ==, 0);
    CHECK_INT(terminate_sessions("stack-kills"), ==, 5);
    WAIT_FOR(5000, STAT(pool, lost) >= 5 * (round + 1));
    for (int i = 0; i < 5; i++) REQUIRE((conns[i] = get_working(pool, slow(5000))) != NULL);
    for (int i = 0; i < 5; i++) CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  }
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  close_whole(pool);
}

/* A call with the token of a closed pool never gets a connection of the pool that took its place. */
static atomic_bool is_over;

static void *ask_a_closed_pool(void *pool) {
  long wrong = 0;
  while (!is_over) {
    if (pool_get(pool, 0) != NULL || pool_errcode() != POOL_ECLOSED) wrong++;
    if (pool_get(NULL, 0) != NULL || pool_errcode() != POOL_EINVAL) wrong++;
  }
  return (void *)wrong;
}

TEST(a_closed_pools_token_gets_nothing_of_its_successor) {
  pool_t *old = open_pool(0, 1);
  REQUIRE(old);
  CHECK_INT(pool_close(old), ==, 0);
  pool_t *pool = filled_pool(1);
  REQUIRE(pool);
  is_over = false;
  pthread_t thread;
  pthread_create(&thread, NULL, ask_a_closed_pool, old);
  int missing = 0;
  for (int i = 0; i < scaled(20000); i++) {
    void *conn = pool_get(pool, 0);
    if (conn == NULL || pool_put(pool, conn) != 0) missing++;
  }
  is_over = true;
  void *wrong;
  pthread_join(thread, &wrong);
  CHECK(wrong == NULL);
  CHECK_INT(missing, ==, 0);
  close_whole(pool);
}
