/* Hosted pools without memory: each n-th allocation fails in turn. A code, never an abort, and nothing is lost. */
#include "failing_malloc.h"
#include "host.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_no_memory(int code) { return code == POOL_ENOMEM || code == POOL_ESYSTEM; }

/* The two ends of an object that needs no memory: a socket is all that the pool sees of one. */
static int open_ends(int ends[2]) { return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends); }

static void close_ends(const int ends[2]) {
  close(ends[0]);
  close(ends[1]);
}

/* Grant, adoption, put, growth, collecting. */
static void use_once(pool_t *pool) {
  int ends[2];
  void *token = pool_get(pool, 0), *tokens[2];
  if (!token) {
    CHECK(is_no_memory(pool_errcode()));
    return;
  }
  CHECK_INT(open_ends(ends), ==, 0);
  int code = pool_adopt(pool, token, ends[0]);
  if (code != 0) {
    CHECK(is_no_memory(code));
    CHECK_INT(pool_fail(pool, token, "53200", "out of memory"), ==, 0);
    close_ends(ends);
    return;
  }
  pool_ticket_t ticket = 0;
  code = pool_get_start(pool, slow(3000), &ticket);
  CHECK(code == 0 || code == POOL_ENOMEM);
  if (code == 0)
    CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  code = pool_resize(pool, 0, 40);
  CHECK(code == 0 || code == POOL_ENOMEM);
  CHECK_INT(pool_put(pool, token), ==, 0);
  CHECK_INT(pool_reconnect(pool), ==, 0);
  CHECK_INT(pool_collect(pool, tokens, 2, slow(3000)), ==, 1);
  close_ends(ends);
  CHECK_INT(pool_discard(pool, tokens[0]), ==, 0);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
}

static void live_once(void) {
  pool_options_t options = options_sized(0, 2);
  pool_t *pool = pool_create_hosted(&options);
  if (!pool) {
    CHECK(is_no_memory(pool_errcode()));
    return;
  }
  use_once(pool);
  CHECK_INT(pool_close(pool), ==, 0);
}

static bool failed_at(long number) {
  long before = atomic_load(&refused);
  atomic_store(&countdown, number);
  live_once();
  atomic_store(&countdown, 0);
  return atomic_load(&refused) != before;
}

TEST_LIMIT(each_allocation_of_a_hosted_pool_may_fail, 60) {
  live_once();
  long number = 1, quiet = 0;
  for (; number < 500 && quiet < 5; number++)
    quiet = failed_at(number) ? 0 : quiet + 1;
  printf("    %ld allocations failed in turn\n", number - 1 - quiet);
  CHECK_INT(number - 1 - quiet, >=, 1);
  CHECK_INT(number, <, 500);
  live_once();
}

TEST_LIMIT(a_failed_allocation_of_a_hosted_pool_loses_no_memory, 60) {
  for (long number = 1; number <= 40; number++)
    failed_at(number);
  /* The last pool's end is the background's: its memory is kept for the next. */
  WAIT_FOR(5000, running_threads() <= resting_threads());
  nap_ms(100);
  for (long number = 1; number <= 40; number++) {
    long before = atomic_load(&live);
    failed_at(number);
    WAIT_FOR(2000, atomic_load(&live) <= before);
  }
}

/* A fresh process each time: what is made once per process fails too. */
TEST_LIMIT(the_first_allocations_of_a_hosts_process_may_fail, 120) {
  for (long number = 1; number <= 30; number++) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      atomic_store(&countdown, number);
      pool_t *pool = pool_create_hosted(NULL);
      int code = pool ? 0 : pool_errcode();
      atomic_store(&countdown, 0);
      if (!pool && !is_no_memory(code))
        _exit(1);
      pool = pool ? pool : pool_create_hosted(NULL);
      int ends[2];
      void *token = pool ? pool_get(pool, 0) : NULL;
      if (!token || open_ends(ends) != 0 || pool_adopt(pool, token, ends[0]) != 0)
        _exit(2);
      _exit(pool_put(pool, token) != 0 ? 3 : pool_close(pool) != 0 ? 4 : 0);
    }
    int status = 0;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    if (!CHECK(WIFEXITED(status)) || !CHECK_INT(WEXITSTATUS(status), ==, 0))
      fprintf(stderr, "    at allocation %ld\n", number);
  }
}

/* Nothing is allocated for what goes on all the time: loans, failures, losses, collecting. */
TEST(a_hosted_pool_works_on_without_memory) {
  pool_t *pool = pool_create_hosted(NULL);
  REQUIRE(pool);
  int ends[2], codes[8] = {0};
  void *token = pool_get(pool, 0), *tokens[2];
  REQUIRE(token != NULL);
  REQUIRE_INT(open_ends(ends), ==, 0);
  atomic_store(&all_fail, true);
  codes[0] = pool_adopt(pool, token, ends[0]);
  codes[1] = pool_put(pool, token);
  token = pool_get(pool, 0);
  codes[2] = pool_put(pool, token);
  codes[3] = pool_reconnect(pool);
  codes[4] = pool_collect(pool, tokens, 2, slow(3000));
  codes[5] = pool_discard(pool, tokens[0]);
  pool_t *other = pool_create_hosted(NULL);
  codes[6] = other ? 0 : pool_errcode();
  atomic_store(&all_fail, false);
  close_ends(ends);
  static const int wanted[] = {0, 0, 0, 0, 1, 0, POOL_ENOMEM};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    if (!CHECK_INT(codes[i], ==, wanted[i]))
      fprintf(stderr, "    at step %zu\n", i);
  CHECK_INT(pool_close(pool), ==, 0);
}
