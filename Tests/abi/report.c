/* pool_report: what the holder of a connection tells of an error that the pool has not seen. */
#include "sqlstates.h"

#include <sys/wait.h>
#include <unistd.h>

TEST(a_connection_stays_after_a_harmless_report) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  for (size_t i = 0; i < COUNT(harmless); i++)
    if (!CHECK_INT(pool_report(pool, conn, harmless[i]), ==, POOL_OK))
      fprintf(stderr, "    of %s\n", harmless[i]);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_connection_is_replaced_after_the_report_of_a_fatal_error) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (size_t i = 0; i < COUNT(fatal); i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    int pid = PQbackendPID(conn);
    if (!CHECK_INT(pool_report(pool, conn, fatal[i]), ==, POOL_CLOSE))
      fprintf(stderr, "    of %s\n", fatal[i]);
    CHECK(works(conn)); /* it is the borrower's until it is put */
    CHECK_INT(pool_report(pool, conn, "22012"), ==, POOL_CLOSE);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    CHECK_INT(PQbackendPID(conn), !=, pid);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(STAT(pool, discarded), ==, COUNT(fatal));
  close_whole(pool);
}

TEST(a_report_tells_that_a_renewed_connection_goes) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_reconnect(pool), ==, 0);
  CHECK_INT(pool_report(pool, conn, "22012"), ==, POOL_CLOSE);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_report_needs_a_lent_connection_and_a_sqlstate) {
  pool_t *pool = open_pool(0, 1), *other = open_pool(0, 1);
  REQUIRE(pool && other);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  check_malformed(pool, conn);
  CHECK_INT(pool_report(pool, conn, "22012"), ==, POOL_OK);
  int on_stack;
  CHECK_INT(pool_report(NULL, conn, "57P01"), ==, POOL_EINVAL);
  CHECK_INT(pool_report(pool, NULL, "57P01"), ==, POOL_EINVAL);
  CHECK_INT(pool_report(pool, &on_stack, "57P01"), ==, POOL_EFOREIGN);
  CHECK_INT(pool_report(other, conn, "57P01"), ==, POOL_EFOREIGN);
  settle_threads();
  pid_t child = fork();
  if (child == 0)
    _exit(pool_report(pool, conn, "57P01") == POOL_EFORKED ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_INT(status, ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_report(pool, conn, "57P01"), ==, POOL_ENOTLEASED);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  close_whole(other);
  CHECK_INT(pool_report(other, conn, "57P01"), ==, POOL_ECLOSED);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_report(pool, conn, "57P01"), ==, POOL_CLOSE); /* still lent */
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_report(pool, conn, "57P01"), ==, POOL_ECLOSED);
}
