/* Connections put back in every state: the next borrower gets a clean one, and nothing was committed. */
#include "pools.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void run(PGconn *conn, const char *query) { PQclear(PQexec(conn, query)); }

/* ---------------------------------------------------------------------------------- what a borrower leaves */

static void in_transaction(PGconn *conn) {
  run(conn, "begin");
  run(conn, "insert into abi_reset values (1)");
}

static void in_failed_transaction(PGconn *conn) {
  in_transaction(conn);
  run(conn, "select no_such_column");
}

static void in_copy_in(PGconn *conn) {
  run(conn, "begin");
  run(conn, "copy abi_reset from stdin");
  CHECK_INT(PQputCopyData(conn, "7\n", 2), ==, 1);
}

static void in_copy_in_without_transaction(PGconn *conn) {
  run(conn, "copy abi_reset from stdin");
  CHECK_INT(PQputCopyData(conn, "7\n", 2), ==, 1);
}

static void in_copy_out(PGconn *conn) {
  run(conn, "copy (select generate_series(1, 200000)) to stdout");
  char *row = NULL;
  CHECK_INT(PQgetCopyData(conn, &row, 0), >, 0);
  PQfreemem(row);
}

static void in_pipeline(PGconn *conn) {
  CHECK_INT(PQenterPipelineMode(conn), ==, 1);
  CHECK_INT(PQsendQueryParams(conn, "insert into abi_reset values (2)", 0, NULL, NULL, NULL, NULL, 0), ==, 1);
  CHECK_INT(PQsendFlushRequest(conn), ==, 1);
  CHECK_INT(PQflush(conn), >=, 0);
}

static void in_pipeline_and_idle(PGconn *conn) { CHECK_INT(PQenterPipelineMode(conn), ==, 1); }

static void with_rows_unread(PGconn *conn) {
  CHECK_INT(PQsendQuery(conn, "select generate_series(1, 200000)"), ==, 1);
  CHECK_INT(PQsetSingleRowMode(conn), ==, 1);
  for (int i = 0; i < 3; i++)
    PQclear(PQgetResult(conn));
}

static void with_result_unread(PGconn *conn) {
  CHECK_INT(PQsendQuery(conn, "select 1; insert into abi_reset values (3); select 1/0"), ==, 1);
}

static void with_query_running(PGconn *conn) { CHECK_INT(PQsendQuery(conn, "select pg_sleep(30)"), ==, 1); }

static void non_blocking(PGconn *conn) { CHECK_INT(PQsetnonblocking(conn, 1), ==, 0); }

static void with_session_dead(PGconn *conn) {
  in_transaction(conn);
  CHECK_INT(sql_number(observer(), "select pg_terminate_backend(%d, 5000)::int", PQbackendPID(conn)), ==, 1);
}

struct state {
  const char *what;
  void (*leave)(PGconn *);
  bool must_be_replaced;
  pool_t *pool;
};

/* From the put to the answer of the next borrower's query. */
static int64_t time_to_a_clean_one(void *context) {
  struct state *state = context;
  PGconn *conn = get_working(state->pool, slow(5000));
  if (!conn)
    return -1;
  int pid = PQbackendPID(conn);
  state->leave(conn);
  int64_t start = now_ms();
  CHECK_INT(pool_put(state->pool, conn), ==, 0);
  conn = pool_get(state->pool, slow(5000));
  if (!conn)
    return -1;
  bool right = sql_number(conn, "select 4711") == 4711;
  int64_t took = now_ms() - start;
  CHECK(right);
  CHECK_INT(PQtransactionStatus(conn), ==, PQTRANS_IDLE);
  CHECK_INT(PQpipelineStatus(conn), ==, PQ_PIPELINE_OFF);
  CHECK_INT(PQisnonblocking(conn), ==, 0);
  if (state->must_be_replaced)
    CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(pool_put(state->pool, conn), ==, 0);
  return took;
}

static void check_state(const char *what, void (*leave)(PGconn *), bool must_be_replaced) {
  CHECK(sql_run(observer(), "drop table if exists abi_reset; create table abi_reset (n int)"));
  struct state state = {what, leave, must_be_replaced, open_pool(0, 1)};
  REQUIRE(state.pool);
  CHECK_WITHIN(50, 40, time_to_a_clean_one, &state);
  CHECK_INT(sql_number(observer(), "select count(*) from abi_reset"), ==, 0);
  CHECK_INT(STAT(state.pool, total), ==, 1);
  close_whole(state.pool);
  CHECK(sql_run(observer(), "drop table abi_reset"));
}

TEST(a_transaction_is_rolled_back) { check_state("transaction", in_transaction, false); }
TEST(a_failed_transaction_is_rolled_back) { check_state("failed transaction", in_failed_transaction, false); }
TEST(a_connection_in_copy_in_is_replaced) { check_state("copy in", in_copy_in, true); }
TEST(a_connection_in_copy_in_of_its_own_commits_nothing) {
  check_state("copy in without transaction", in_copy_in_without_transaction, true);
}
TEST(a_connection_in_copy_out_is_replaced) { check_state("copy out", in_copy_out, true); }
TEST(a_connection_in_a_pipeline_is_replaced) { check_state("pipeline", in_pipeline, true); }
TEST(a_connection_in_an_idle_pipeline_is_replaced) { check_state("idle pipeline", in_pipeline_and_idle, true); }
TEST(a_connection_with_rows_unread_is_replaced) { check_state("rows unread", with_rows_unread, true); }
TEST(a_connection_that_is_non_blocking_is_replaced) { check_state("non-blocking", non_blocking, true); }
TEST(a_connection_whose_session_died_is_replaced) { check_state("dead", with_session_dead, true); }

/* Its statements may have run: what a borrower has sent outside a transaction is his. The next one is clean. */
TEST(a_connection_with_a_result_unread_is_replaced) {
  CHECK(sql_run(observer(), "drop table if exists abi_reset; create table abi_reset (n int)"));
  struct state state = {"result unread", with_result_unread, true, open_pool(0, 1)};
  REQUIRE(state.pool);
  CHECK_WITHIN(50, 40, time_to_a_clean_one, &state);
  close_whole(state.pool);
  CHECK(sql_run(observer(), "drop table abi_reset"));
}

/* The server sees the end of a session only after its query: the slot may stay taken for a second. */
TEST(a_connection_with_a_query_running_is_replaced_within_the_second) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  with_query_running(conn);
  int64_t start = now_ms();
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(500));
  conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  CHECK_INT(now_ms() - start, <, slow(2500));
  CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  sql_number(observer(), "select pg_terminate_backend(%d, 5000)::int", pid);
  close_whole(pool);
}

TEST(reset_none_leaves_the_transaction_to_the_contract) {
  /* With POOL_RESET_NONE the promise "idle and out of any transaction" still holds for what is lent. */
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_NONE;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  run(conn, "set search_path to pg_catalog");
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  char path[64];
  CHECK(sql_text(conn, path, sizeof path, "show search_path") && strcmp(path, "pg_catalog") == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, resets), ==, 0);
  close_whole(pool);
}

/* ------------------------------------------------------------------------------------------ session state */

static void leave_seven_things(PGconn *conn) {
  run(conn, "set search_path to pg_catalog");
  run(conn, "create temp table abi_left (n int)");
  run(conn, "select pg_advisory_lock(4711)");
  run(conn, "listen abi_channel");
  run(conn, "prepare abi_statement as select 1");
  run(conn, "set application_name to 'abi-left'");
  run(conn, "set role pg_monitor");
}

static int things_left(PGconn *conn, const char *name) {
  char text[128] = "";
  int left = 0;
  CHECK(sql_text(conn, text, sizeof text, "show search_path"));
  left += strcmp(text, "pg_catalog") == 0;
  left += sql_number(conn, "select count(*) from pg_class where relname = 'abi_left'") != 0;
  left += sql_number(conn, "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711") != 0;
  left += sql_number(conn, "select count(*) from pg_listening_channels()") != 0;
  left += sql_number(conn, "select count(*) from pg_prepared_statements") != 0;
  CHECK(sql_text(conn, text, sizeof text, "show application_name"));
  left += strcmp(text, name) != 0;
  CHECK(sql_text(conn, text, sizeof text, "select current_user"));
  left += strcmp(text, "pg_monitor") == 0;
  return left;
}

static void check_seven_things(int reset, const char *query, bool in_transaction_too) {
  pool_options_t options = options_sized(0, 1);
  options.reset = reset;
  options.reset_query = query;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  leave_seven_things(conn);
  CHECK_INT(things_left(conn, options.name), ==, 7);
  if (in_transaction_too)
    run(conn, "begin; select no_such_column");
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  CHECK_INT(things_left(conn, options.name), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, reset_failures), ==, 0);
  close_whole(pool);
}

TEST(discard_all_leaves_none_of_seven_things) { check_seven_things(POOL_RESET_DISCARD_ALL, NULL, false); }
TEST(discard_all_works_in_a_failed_transaction) { check_seven_things(POOL_RESET_DISCARD_ALL, NULL, true); }
TEST(a_reset_query_does_what_it_says) { check_seven_things(POOL_RESET_QUERY, "discard all", false); }
TEST(a_reset_query_follows_the_rollback) { check_seven_things(POOL_RESET_QUERY, "discard all", true); }

/* Each is sent by itself, and more may come than an ordinary answer has. */
TEST(a_reset_query_with_many_notices_keeps_its_connection) {
  static char sql[120 * 60];
  for (int i = 0; i < 120; i++)
    snprintf(sql + strlen(sql), sizeof sql - strlen(sql), "drop table if exists abi_reset_none_%d;", i);
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  options.reset_query = sql;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  for (int i = 0; i < 20; i++)
    CHECK_INT(pool_put(pool, get_working(pool, slow(5000))), ==, 0);
  WAIT_FOR(5000, STAT(pool, idle) == 1);
  CHECK_INT(STAT(pool, opened), ==, 1);
  CHECK_INT(STAT(pool, reset_failures), ==, 0);
  close_whole(pool);
}

TEST(a_reset_query_that_fails_loses_its_connection) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  options.reset_query = "select no_such_column";
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(STAT(pool, reset_failures), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST(a_reset_that_takes_too_long_loses_its_connection) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  options.reset_query = "select pg_sleep(60)";
  options.check_timeout_ms = 300;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = PQbackendPID(conn);
  int64_t start = now_ms();
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(200));
  conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(now_ms() - start, >=, 299);
  CHECK_INT(now_ms() - start, <, slow(3000));
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  sql_run(observer(), "select pg_terminate_backend(%d)", pid);
}

/* ------------------------------------------------------------------------------------ libpq's own state */

static int notices_seen;

static void count_notice(void *context, const PGresult *result) {
  (void)context;
  (void)result;
  notices_seen++;
}

TEST(libpqs_own_state_is_as_new_after_a_full_reset) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  PQnoticeReceiver receiver = PQsetNoticeReceiver(conn, count_notice, NULL);
  PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
  PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ALWAYS);
  char trace_path[] = "/tmp/abi-trace-XXXXXX";
  int fd = mkstemp(trace_path);
  FILE *trace = fdopen(fd, "w");
  REQUIRE(trace != NULL);
  unlink(trace_path);
  PQtrace(conn, trace);
  run(conn, "listen abi_channel");
  run(conn, "notify abi_channel");
  fflush(trace);
  CHECK_INT(ftell(trace), >, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  fflush(trace);
  long traced = ftell(trace);
  run(conn, "do $$ begin raise notice 'hello'; end $$");
  fflush(trace);
  CHECK_INT(ftell(trace), ==, traced);
  fclose(trace);
  CHECK_INT(notices_seen, ==, 0);
  CHECK_INT(PQsetErrorVerbosity(conn, PQERRORS_DEFAULT), ==, PQERRORS_DEFAULT);
  CHECK_INT(PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ERRORS), ==, PQSHOW_CONTEXT_ERRORS);
  CHECK(PQsetNoticeReceiver(conn, receiver, NULL) != count_notice);
  PGnotify *notify = PQnotifies(conn);
  CHECK(notify == NULL);
  PQfreemem(notify);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_clean_connection_is_put_without_a_round_trip) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (int i = 0; i < 20; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(STAT(pool, resets), ==, 0);
  close_whole(pool);
}

static void *borrow_once(void *pool) {
  PGconn *conn = pool_get(pool, slow(5000));
  CHECK(conn && PQtransactionStatus(conn) == PQTRANS_IDLE && works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return NULL;
}

TEST(a_waiter_is_handed_the_connection_only_after_its_rollback) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  for (int round = 0; round < scaled(50); round++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    run(conn, "begin");
    pthread_t thread;
    pthread_create(&thread, NULL, borrow_once, pool);
    WAIT_FOR(2000, STAT(pool, waiting) == 1);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    pthread_join(thread, NULL);
  }
  CHECK_INT(STAT(pool, opened), ==, 1);
  close_whole(pool);
}
