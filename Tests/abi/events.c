/* What borrowers do to a connection through libpq, and what the server tells them: PQfinish, PQreset, errors. */
#include "pools.h"

#include <libpq-events.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int pid_of_next(pool_t *pool) {
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = conn ? PQbackendPID(conn) : -1;
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return pid;
}

/* ------------------------------------------------------------------------------------------------------ errors */

/* A loan with an error of this SQLSTATE: is its session lent again? */
static bool is_kept_after(pool_t *pool, const char *sqlstate) {
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  if (!conn)
    return false;
  int pid = PQbackendPID(conn);
  char query[128];
  snprintf(query, sizeof query, "do $$ begin raise exception using errcode = '%s'; end $$", sqlstate);
  PGresult *result = PQexec(conn, query);
  CHECK_HAS(PQresultErrorField(result, PG_DIAG_SQLSTATE), sqlstate);
  PQclear(result);
  CHECK_INT(PQstatus(conn), ==, CONNECTION_OK);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return pid_of_next(pool) == pid;
}

TEST(errors_that_spoil_no_session_leave_it) {
  static const char *const harmless[] = {"22012", "23505", "40001", "40P01", "42P01", "42501", "53100", "54000",
                                         "57014", "55P03", "XX000", "XX001", "P0001", "0A000", "25001", "25P02",
                                         "08001", "08006"}; /* as ERROR, class 08 is dblink's or postgres_fdw's */
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
    if (!CHECK(is_kept_after(pool, harmless[i])))
      fprintf(stderr, "    after %s\n", harmless[i]);
  CHECK_INT(STAT(pool, opened), ==, 1);
  close_whole(pool);
}

TEST(an_error_that_ends_the_session_has_it_replaced) {
  static const char *const fatal[] = {"57P01", "57P02", "57P03", "57P05", "25P03"};
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
    if (!CHECK(!is_kept_after(pool, fatal[i])))
      fprintf(stderr, "    after %s\n", fatal[i]);
  CHECK_INT(STAT(pool, discarded), ==, sizeof fatal / sizeof *fatal);
  close_whole(pool);
}

/* libpq has the server's last words, and has not met the end of the stream behind them yet. */
TEST(a_session_is_replaced_whose_last_words_only_were_read) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK_INT(PQsendQuery(conn, "select pg_terminate_backend(pg_backend_pid())"), ==, 1);
  PGresult *result = PQgetResult(conn);
  CHECK_HAS(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57P01");
  PQclear(result);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pid_of_next(pool), !=, pid);
  close_whole(pool);
}

TEST(the_pools_own_queries_are_not_taken_for_the_borrowers) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  options.reset_query = "do $$ begin if current_setting('abi.fail', true) = 'yes' then "
                        "raise exception using errcode = '57P01'; end if; end $$";
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  int pid = pid_of_next(pool);
  CHECK_INT(pid_of_next(pool), ==, pid);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK(sql_run(conn, "set abi.fail = 'yes'"));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pid_of_next(pool), !=, pid);
  CHECK_INT(STAT(pool, reset_failures), ==, 1);
  close_whole(pool);
}

/* ---------------------------------------------------------------------------------------------------- PQfinish */

TEST(a_connection_finished_by_its_borrower_is_forgotten_and_replaced) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  char name[POOL_NAME_LIMIT + 1];
  snprintf(name, sizeof name, "%s", PQparameterStatus(conn, "application_name"));
  PQfinish(conn);
  CHECK_INT(STAT(pool, in_use), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, POOL_ENOTLEASED);
  CHECK_HAS(pool_errmsg(), "PQfinish");
  CHECK_INT(pool_discard(pool, conn), ==, POOL_ENOTLEASED);
  CHECK_HAS(pool_errmsg(), "PQfinish");
  CHECK_INT(pool_report(pool, conn, "57P01"), ==, POOL_ENOTLEASED);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQbackendPID(conn), !=, pid);
  CHECK_INT(sessions(name), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, opened), ==, 2);
  CHECK_INT(STAT(pool, puts), ==, 2);
  close_whole(pool);
}

/* The allocator gives the memory of a finished connection to the next: one address, many sessions. */
TEST(addresses_of_finished_connections_may_come_again) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  int rounds = scaled(60), again = 0;
  void *before = NULL;
  for (int i = 0; i < rounds; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    again += conn == before;
    before = conn;
    if (i % 3 == 2)
      CHECK_INT(pool_put(pool, conn), ==, 0);
    else
      PQfinish(conn);
    CHECK_INT(STAT(pool, in_use), ==, 0);
  }
  printf("    %d of %d connections had the address of the one before\n", again, rounds);
  CHECK_INT(STAT(pool, puts), ==, rounds);
  close_whole(pool);
}

static void *wait_for_loan(void *pool) { return pool_get(pool, slow(5000)); }

TEST(who_waits_is_served_when_a_borrower_finishes_its_connection) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pthread_t waiter;
  REQUIRE_INT(pthread_create(&waiter, NULL, wait_for_loan, pool), ==, 0);
  WAIT_FOR(2000, STAT(pool, waiting) == 1);
  PQfinish(conn);
  void *loan = NULL;
  pthread_join(waiter, &loan);
  REQUIRE(loan);
  CHECK(works(loan));
  CHECK_INT(pool_put(pool, loan), ==, 0);
  close_whole(pool);
}

TEST(a_connection_finished_in_a_transaction_or_amid_a_query_is_replaced_too) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK(sql_run(conn, "begin"));
  PQfinish(conn);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQsendQuery(conn, "select 1; select 2"), ==, 1);
  PGresult *result = PQgetResult(conn);
  PQfinish(conn);
  PQclear(result); /* results outlive it */
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

/* Use after the put, the worst of misuses: nobody is lent the freed connection, at least. Without the watch: it may hear
 * of the session's end while PQfinish is still at it, and then the pool finishes the connection too, which libpq does not
 * survive. */
TEST(a_connection_finished_after_it_was_put_is_lent_to_nobody) {
  pool_options_t options = options_sized(0, 1);
  options.check = POOL_CHECK_NONE;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  PQfinish(conn);
  CHECK_INT(STAT(pool, idle), ==, 0);
  CHECK_INT(pool_put(pool, conn), <, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_closed_pool_ends_when_the_last_connection_is_finished) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *first = get_working(pool, POOL_TIMEOUT_DEFAULT), *second = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int descriptors = open_descriptors();
  CHECK_INT(pool_close(pool), ==, 0);
  PQfinish(first);
  PQfinish(second);
  CHECK_INT(pool_put(pool, first), ==, POOL_ECLOSED);
  WAIT_FOR(2000, open_descriptors() <= descriptors - 4); /* libpq's two, and our duplicates of them */
}

/* ----------------------------------------------------------------------------------------------------- PQreset */

TEST(a_session_reset_by_its_borrower_is_watched_and_counted_until_it_is_replaced) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn && observer());
  int descriptors = open_descriptors();
  char name[POOL_NAME_LIMIT + 1];
  snprintf(name, sizeof name, "%s", PQparameterStatus(conn, "application_name"));
  PQreset(conn);
  REQUIRE(works(conn));
  int pid = PQbackendPID(conn);
  CHECK_INT(open_descriptors(), ==, descriptors);
  WAIT_FOR(2000, sessions(name) == 1);
  /* Ended by PQfinish now, and counted until the server has closed it. */
  PQfinish(conn);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(sessions(name), ==, 1);
  CHECK_INT(PQbackendPID(conn), !=, pid);
  PQreset(conn);
  pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pid_of_next(pool), !=, pid);
  WAIT_FOR(2000, sessions(name) == 1);
  WAIT_FOR(2000, open_descriptors() == descriptors);
  close_whole(pool);
}

TEST(a_reset_that_fails_or_is_left_half_way_is_replaced) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int descriptors = open_descriptors();
  CHECK_INT(PQresetStart(conn), ==, 1);
  CHECK_INT(PQresetPoll(conn), !=, PGRES_POLLING_FAILED);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQresetStart(conn), ==, 1);
  PQfinish(conn);
  CHECK_INT(pool_put(pool, get_working(pool, POOL_TIMEOUT_DEFAULT)), ==, 0);
  WAIT_FOR(2000, open_descriptors() == descriptors);
  close_whole(pool);
}

static bool is_null_device(int descriptor) {
  struct stat found, null;
  return fstat(descriptor, &found) == 0 && stat("/dev/null", &null) == 0 && found.st_rdev == null.st_rdev &&
         S_ISCHR(found.st_mode);
}

static int exit_code_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(the_socket_of_a_session_that_was_reset_is_kept_from_a_forked_child) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  PQreset(conn);
  REQUIRE(works(conn));
  settle_threads();
  pid_t child = fork();
  if (child == 0)
    _exit(is_null_device(PQsocket(conn)) ? 0 : 1);
  CHECK_INT(exit_code_of(child), ==, 0);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_child_that_finishes_inherited_connections_does_the_pools_no_harm) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT), *other = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn && other);
  settle_threads();
  pid_t child = fork();
  if (child == 0) {
    PQfinish(conn); /* before the pool is used here */
    PGconn *own = get_working(pool, POOL_TIMEOUT_DEFAULT);
    PQfinish(other); /* and after */
    bool fine = works(own) && pool_put(pool, other) == POOL_EFORKED && pool_put(pool, own) == 0 &&
                STAT(pool, internal_errors) == 0 && STAT(pool, in_use) == 0;
    settle_threads();
    _exit(fine ? 0 : 1);
  }
  CHECK_INT(exit_code_of(child), ==, 0);
  CHECK(works(conn));
  CHECK(works(other));
  CHECK_INT(STAT(pool, in_use), ==, 2);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_put(pool, other), ==, 0);
  CHECK_INT(STAT(pool, opened), ==, 2);
  close_whole(pool);
}

/* ------------------------------------------------------------------------------------------- callbacks, events */

static int meddle(void *context, void *conn) {
  void (*function)(PGconn *) = *(void (**)(PGconn *))context;
  function(conn);
  return 0;
}

static void check_meddling(void (*function)(PGconn *), const char *word) {
  pool_t *first = open_pool(0, 1); /* with it come the descriptors of the process */
  REQUIRE(first);
  int descriptors = open_descriptors();
  pool_options_t options = options_sized(1, 1);
  options.configure = meddle;
  options.context = &function;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  WAIT_FOR(5000, STAT(pool, connect_failures) >= 2);
  CHECK(pool_get(pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), word);
  CHECK_INT(pool_resize(pool, 0, 1), ==, 0);
  WAIT_FOR(5000, STAT(pool, connecting) == 0 && open_descriptors() <= descriptors);
  close_whole(pool);
  close_whole(first);
}

TEST(a_configure_that_finishes_the_connection_fails_the_attempt) { check_meddling(PQfinish, "PQfinish"); }
TEST(a_configure_that_resets_the_connection_fails_the_attempt) { check_meddling(PQreset, "PQreset"); }

static int count_results(PGEventId event, void *details, void *context) {
  (void)details;
  if (event == PGEVT_RESULTCREATE)
    ++*(int *)context;
  return 1;
}

TEST(borrowers_may_have_event_procedures_and_data_of_their_own) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int results = 0, data = 7;
  CHECK_INT(PQregisterEventProc(conn, count_results, "abi", &results), ==, 1);
  CHECK_INT(PQsetInstanceData(conn, count_results, &data), ==, 1);
  CHECK(works(conn));
  CHECK_INT(results, ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK(PQinstanceData(conn, count_results) == &data);
  CHECK_INT(results, ==, 2);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

static PGconn *left_over;
static void finish_left_over(void) { PQfinish(left_over); }

/* A program whose exit handlers finish what it has borrowed, before ours and after. */
HELPER(finish_at_exit) {
  if (strcmp(helper_argument(), "after") == 0)
    atexit(finish_left_over);
  pool_t *pool = open_pool(0, 2);
  if (strcmp(helper_argument(), "before") == 0)
    atexit(finish_left_over);
  left_over = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  exit(works(left_over) ? 0 : 1);
}

TEST(exit_handlers_may_finish_connections) {
  static const char *const when[] = {"before", "after"};
  for (int i = 0; i < 2; i++) {
    char output[512];
    int64_t start = now_ms();
    int status = run_helper("finish_at_exit", when[i], output, sizeof output, slow(5000));
    CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(now_ms() - start, <, slow(3000));
    CHECK(output[0] == 0);
  }
}
