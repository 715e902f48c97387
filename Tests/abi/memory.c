/* Running out of memory: each n-th allocation fails in turn, and then all of them. A code, never an abort, and
 * nothing is lost. */
#include "failing_malloc.h"
#include "one_round.h"
#include "pools.h"

#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* TLS and Kerberos would drown the pool's own allocations in theirs, and do not survive all of it. */
static const char plain[] = "sslmode=disable gssencmode=disable user=abi_memory password=" ONE_ROUND_PASSWORD;

static void with_role(void (*run)(void)) {
  create_role("abi_memory", ONE_ROUND_SECRET, "");
  run();
  WAIT_FOR(3000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_memory'") == 0);
  drop_role("abi_memory");
}

static bool is_documented(int code) {
  return code == POOL_ENOMEM || code == POOL_ECONNECT || code == POOL_ETIMEOUT || code == POOL_ESYSTEM;
}

/* Once through a pool's life. What fails must say why. */
static void live_once(void) {
  pool_options_t options = options_sized(0, 2);
  pool_t *pool = pool_create(plain, &options);
  if (!pool) {
    int code = pool_errcode();
    if (!CHECK(code == POOL_ENOMEM || code == POOL_ESYSTEM))
      fprintf(stderr, "    pool_create: %d: %s\n", code, pool_errmsg());
    return;
  }
  void *conn = pool_get(pool, slow(3000));
  if (!conn)
    CHECK(is_documented(pool_errcode()));
  else
    CHECK_INT(pool_put(pool, conn), ==, 0);
  pool_ticket_t ticket = 0;
  int code = pool_get_start(pool, slow(3000), &ticket);
  CHECK(code == 0 || code == POOL_ENOMEM);
  if (code == 0)
    CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  code = pool_resize(pool, 0, 40);
  CHECK(code == 0 || code == POOL_ENOMEM);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

static bool failed_at(long number) {
  long before = atomic_load(&refused);
  atomic_store(&countdown, number);
  live_once();
  atomic_store(&countdown, 0);
  return atomic_load(&refused) != before;
}

/* Each of the first sixty, then one of `step`, until a life makes fewer. */
static void fail_in_turn(long step) {
  live_once();
  long number = 1, tried = 0, quiet = 0;
  for (; number < 20000 && quiet < 3; number += number < 60 ? 1 : step, tried++)
    quiet = failed_at(number) ? 0 : quiet + 1;
  printf("    %ld of about %ld allocations failed in turn\n", tried - quiet, number - 3 * step);
  CHECK_INT(number, >, 20);
  live_once();
}

static void fail_some(void) { fail_in_turn(9); }
static void fail_all(void) { fail_in_turn(1); }

TEST_LIMIT(an_allocation_may_fail, 60) { with_role(fail_some); }
LONG_TEST(each_allocation_may_fail, 900) { with_role(fail_all); }

/* libpq leaves out without a word what it has no memory to tell: such a pool would connect elsewhere, or without TLS. */
static void fail_in_create(void) {
  bool is_reached = true;
  for (long number = 1; is_reached; number++) {
    long before = atomic_load(&refused);
    atomic_store(&countdown, number);
    pool_t *pool = pool_create(plain, NULL);
    int code = pool ? 0 : pool_errcode();
    atomic_store(&countdown, 0);
    is_reached = atomic_load(&refused) != before;
    if (!pool) {
      CHECK(code == POOL_ENOMEM || code == POOL_ESYSTEM);
      continue;
    }
    void *conn = is_reached ? pool_get(pool, slow(5000)) : NULL;
    if (is_reached && !CHECK(conn != NULL))
      fprintf(stderr, "    without allocation %ld: %s\n", number, pool_errmsg());
    if (conn)
      CHECK_INT(pool_put(pool, conn), ==, 0);
    CHECK_INT(pool_close(pool), ==, 0);
  }
}

TEST_LIMIT(a_pool_made_with_too_little_memory_knows_its_whole_conninfo, 60) { with_role(fail_in_create); }

enum { FIRST = 70 };

/* Blocks of memory, after what lingers has had its time. */
static long lost_without(long number) {
  long before = atomic_load(&live);
  failed_at(number);
  for (int64_t end = now_ms() + slow(3000); atomic_load(&live) > before && now_ms() < end;)
    nap_ms(1);
  return atomic_load(&live) - before;
}

/* What libraries make once, on a path that only a failure takes, is there after the first time. */
static void fail_the_first_twice(void) {
  for (long number = 1; number <= FIRST; number++)
    failed_at(number);
  WAIT_FOR(5000, running_threads() <= resting_threads());
  for (long number = 1; number <= FIRST; number++) {
    /* So is what only two connects at a time make. What is lost is lost each time. */
    long more = 1;
    for (int turn = 0; turn < 5 && more > 0; turn++)
      more = lost_without(number);
    if (!CHECK_INT(more, <=, 0))
      fprintf(stderr, "    without allocation %ld\n", number);
  }
}

TEST_LIMIT(a_failed_allocation_loses_no_memory, 60) { with_role(fail_the_first_twice); }

/* A fresh process each time: what is made once per process fails too. */
static void fail_the_first_of_a_process(void) {
  for (long number = 1; number <= 40; number++) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      atomic_store(&countdown, number);
      pool_t *pool = pool_create(plain, NULL);
      int code = pool ? 0 : pool_errcode();
      atomic_store(&countdown, 0);
      if (!pool && code != POOL_ENOMEM && code != POOL_ESYSTEM)
        _exit(1);
      pool = pool ? pool : pool_create(plain, NULL);
      void *conn = pool ? pool_get(pool, slow(5000)) : NULL;
      _exit(!conn ? 2 : pool_put(pool, conn) != 0 ? 3 : pool_close(pool) != 0 ? 4 : 0);
    }
    int status = 0;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    if (!CHECK(WIFEXITED(status)) || !CHECK_INT(WEXITSTATUS(status), ==, 0))
      fprintf(stderr, "    at allocation %ld\n", number);
  }
}

TEST_LIMIT(the_first_allocations_of_a_process_may_fail, 120) { with_role(fail_the_first_of_a_process); }

TEST(a_pool_lives_through_a_time_without_memory) {
  pool_t *pool = pool_create("sslmode=disable gssencmode=disable pool_max_size=2", NULL);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  atomic_store(&all_fail, true);
  pool_t *other = pool_create("", NULL);
  int create_code = other ? 0 : pool_errcode();
  int64_t start = now_ms();
  void *second = pool_get(pool, 300);
  int get_code = second ? 0 : pool_errcode();
  int64_t took = now_ms() - start;
  int put_code = pool_put(pool, conn);
  void *again = pool_get(pool, 0); /* nothing is needed to lend what is there */
  int again_code = again ? pool_put(pool, again) : pool_errcode();
  atomic_store(&all_fail, false);
  CHECK_INT(create_code, ==, POOL_ENOMEM);
  CHECK(is_documented(get_code));
  CHECK_INT(took, <, slow(800));
  CHECK_INT(put_code, ==, 0);
  CHECK_INT(again_code, ==, 0);
  void *first = get_working(pool, slow(5000));
  second = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, first), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  close_whole(pool);
}

TEST(a_pool_that_has_no_threads_says_so) {
  /* root is not bound by RLIMIT_NPROC: the address space bounds the stacks instead. */
  pid_t child = fork();
  if (child == 0) {
    struct rlimit limit = {0, 0};
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (!file || fscanf(file, "%ld", &pages) != 1)
      _exit(10);
    fclose(file);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages * 4096 + 200 * 1024;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
      _exit(11);
    pool_t *pool = pool_create(plain, NULL);
    if (!pool)
      _exit(pool_errcode() == POOL_ENOMEM || pool_errcode() == POOL_ESYSTEM ? 0 : 12);
    void *conn = pool_get(pool, 500);
    if (!conn && !is_documented(pool_errcode()))
      _exit(13);
    if (conn && pool_put(pool, conn) != 0)
      _exit(14);
    _exit(pool_close(pool) == 0 ? 0 : 15);
  }
  int status = 0;
  CHECK_INT(waitpid(child, &status, 0), ==, child);
  CHECK(WIFEXITED(status));
  CHECK_INT(WEXITSTATUS(status), ==, 0);
}

TEST(running_out_of_descriptors_is_a_code) {
  pool_t *pool = pool_create("sslmode=disable pool_max_size=4", NULL);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  struct rlimit before, none;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
  none = before;
  none.rlim_cur = 3;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
  CHECK(pool_get(pool, 300) == NULL);
  CHECK(is_documented(pool_errcode()));
  pool_t *other = pool_create(plain, NULL);
  if (other)
    CHECK_INT(pool_close(other), ==, 0);
  else
    CHECK_INT(pool_errcode(), ==, POOL_ESYSTEM);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
  PGconn *second = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  close_whole(pool);
}
