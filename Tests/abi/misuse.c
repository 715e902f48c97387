/* Wrong arguments: a code, never a crash, and nothing changed. */
#include "pools.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(null_is_no_pool) { check_every_function(NULL, POOL_EINVAL); }

TEST(an_address_is_no_pool) {
  static const uintptr_t tokens[] = {1, 2, 7, 0x1000, 0xffff, 0xffffffff, UINTPTR_MAX, UINTPTR_MAX / 2, (uintptr_t)1 << 63};
  int on_stack;
  void *on_heap = malloc(16);
  for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
    check_every_function((pool_t *)tokens[i], POOL_EINVAL);
  check_every_function((pool_t *)&on_stack, POOL_EINVAL);
  check_every_function((pool_t *)on_heap, POOL_EINVAL);
  free(on_heap);
}

TEST(a_token_with_a_bit_changed_is_no_pool) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (int bit = 0; bit < 64; bit++) {
    pool_t *wrong = (pool_t *)((uintptr_t)pool ^ ((uintptr_t)1 << bit));
    CHECK(pool_get(wrong, 0) == NULL);
    CHECK(pool_errcode() == POOL_EINVAL || pool_errcode() == POOL_ECLOSED);
    CHECK_INT(pool_close(wrong), <, 0);
  }
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_connection_put_twice_is_refused) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, POOL_ENOTLEASED);
  CHECK_INT(pool_discard(pool, conn), ==, POOL_ENOTLEASED);
  CHECK_INT(STAT(pool, idle), ==, 1);
  CHECK_INT(STAT(pool, total), ==, 1);
  PGconn *first = get_working(pool, POOL_TIMEOUT_DEFAULT), *second = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK(first != second);
  CHECK_INT(pool_put(pool, first), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  close_whole(pool);
}

TEST(a_foreign_connection_is_refused_and_left_alone) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *own = connect_plainly("");
  CHECK_INT(pool_put(pool, own), ==, POOL_EFOREIGN);
  CHECK_INT(pool_discard(pool, own), ==, POOL_EFOREIGN);
  CHECK(works(own));
  PQfinish(own);
  close_whole(pool);
}

TEST(another_pools_connection_is_refused_and_still_lent) {
  pool_t *pool = open_pool(0, 1), *other = open_pool(0, 1);
  REQUIRE(pool && other);
  PGconn *conn = get_working(other, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(pool_put(pool, conn), ==, POOL_EFOREIGN);
  CHECK_INT(pool_discard(pool, conn), ==, POOL_EFOREIGN);
  CHECK(works(conn));
  CHECK_INT(STAT(other, in_use), ==, 1);
  CHECK_INT(pool_put(other, conn), ==, 0);
  close_whole(pool);
  close_whole(other);
}

TEST(an_address_of_anything_is_no_connection) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int on_stack;
  CHECK_INT(pool_put(pool, NULL), ==, POOL_EINVAL);
  CHECK_INT(pool_discard(pool, NULL), ==, POOL_EINVAL);
  CHECK_INT(pool_put(pool, &on_stack), ==, POOL_EFOREIGN);
  CHECK_INT(pool_put(pool, (void *)1), ==, POOL_EFOREIGN);
  CHECK_INT(pool_put(pool, (void *)UINTPTR_MAX), ==, POOL_EFOREIGN);
  CHECK_INT(pool_put(pool, (char *)conn + 1), ==, POOL_EFOREIGN);
  CHECK_INT(pool_put(pool, (char *)conn - 8), ==, POOL_EFOREIGN);
  CHECK_INT(pool_put(pool, pool), ==, POOL_EFOREIGN);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_negative_timeout_that_is_no_constant_is_refused) {
  static const int wrong[] = {-3, -4, -1000, INT_MIN};
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  pool_ticket_t ticket = 0;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    CHECK(pool_get(pool, wrong[i]) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    CHECK_INT(pool_get_start(pool, wrong[i], &ticket), ==, POOL_EINVAL);
    CHECK_INT(pool_wait(pool, wrong[i]), ==, POOL_EINVAL);
    CHECK_INT(pool_drain(pool, wrong[i]), ==, POOL_EINVAL);
  }
  CHECK_INT(STAT(pool, waiting), ==, 0);
  CHECK_INT(STAT(pool, paused), ==, 0);
  close_whole(pool);
}

TEST(the_longest_timeout_is_no_problem) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, INT_MAX);
  REQUIRE(conn);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, INT_MAX, &ticket), ==, 0);
  CHECK(pool_get_wait(pool, ticket, 20) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = pool_get_wait(pool, ticket, INT_MAX);
  CHECK(conn != NULL);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(tickets_that_never_were_are_refused) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  static const pool_ticket_t wrong[] = {0, 1, 2, 0xffffffff, UINT64_MAX, (uint64_t)1 << 32};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    CHECK(pool_get_wait(pool, wrong[i], 0) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    CHECK_INT(pool_get_cancel(pool, wrong[i]), ==, POOL_EINVAL);
  }
  CHECK_INT(pool_get_start(pool, 100, NULL), ==, POOL_EINVAL);
  CHECK_INT(STAT(pool, waiting), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get_wait(pool, ticket, -3) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  close_whole(pool);
}

TEST(a_ticket_of_another_pool_is_refused) {
  pool_t *pool = open_pool(0, 1), *other = open_pool(0, 1);
  REQUIRE(pool && other);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(5000), &ticket), ==, 0);
  CHECK(pool_get_wait(other, ticket, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(pool_get_cancel(other, ticket), ==, POOL_EINVAL);
  CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
  close_whole(other);
}

TEST(statistics_need_a_place_to_go) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  CHECK_INT(pool_stats(pool, NULL), ==, POOL_EINVAL);
  close_whole(pool);
}

TEST(a_reset_by_the_borrower_makes_a_new_session_that_is_taken_back) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  PQreset(conn);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  /* The new session is watched as the old one was. */
  CHECK_INT(sql_number(observer(), "select pg_terminate_backend(%d, 5000)::int", pid), ==, 1);
  WAIT_FOR(2000, STAT(pool, idle) == 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

/* What a program sees that does everything wrong: run as a program of its own, its output collected. */
HELPER(do_everything_wrong) {
  pool_t *bad = pool_create("host=127.0.0.1 port=1", NULL);
  if (pool_get(bad, 200) || pool_put(bad, bad) == 0 || pool_close(NULL) == 0)
    abort();
  pool_close(bad);
  pool_create("nonsense", NULL);
  pool_create("postgresql://[", NULL);
  pool_t *pool = open_pool(1, 1);
  PGconn *conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  PQclear(PQexec(conn, "do $$ begin raise warning 'a notice'; end $$"));
  PQclear(PQexec(conn, "begin; select no_such_column"));
  pool_put(pool, conn);
  pool_put(pool, conn);
  conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  terminate_sessions(PQparameterStatus(conn, "application_name"));
  PQclear(PQexec(conn, "select 1"));
  pool_put(pool, conn);
  conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  if (!conn)
    abort();
  pool_close(pool);
}

TEST(the_library_prints_nothing) {
  char output[2048];
  int status = run_helper("do_everything_wrong", "", output, sizeof output, 20000);
  CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(output[0] == 0);
  if (output[0])
    fprintf(stderr, "    printed: %s\n", output);
}
