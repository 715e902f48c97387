/* With reset=discard_all libpq's own state is as new for the next borrower of the same connection, too. */
#include "pools.h"

#include <libpq-events.h>

static pool_t *open_strict_pool(void) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  return open_pool_with(&options);
}

struct pair {
  pool_t *pool;
  PGconn *conn;
  int pid;
};

static struct pair first_loan(void) {
  struct pair pair = {open_strict_pool(), NULL, 0};
  pair.conn = pair.pool ? get_working(pair.pool, POOL_TIMEOUT_DEFAULT) : NULL;
  pair.pid = pair.conn ? PQbackendPID(pair.conn) : 0;
  return pair;
}

static bool lend_again(struct pair *pair) {
  CHECK_INT(pool_put(pair->pool, pair->conn), ==, 0);
  pair->conn = get_working(pair->pool, POOL_TIMEOUT_DEFAULT);
  return CHECK(pair->conn != NULL) && CHECK_INT(PQbackendPID(pair->conn), ==, pair->pid);
}

static void end_pair(struct pair *pair) {
  CHECK_INT(pool_put(pair->pool, pair->conn), ==, 0);
  close_whole(pair->pool);
}

static int received, processed;

static void receive(void *context, const PGresult *result) {
  (void)context;
  (void)result;
  received++;
}

static void process_notice(void *context, const char *message) {
  (void)context;
  (void)message;
  processed++;
}

static void raise_notice(PGconn *conn) { CHECK(sql_run(conn, "do $$ begin raise warning 'isolation'; end $$")); }

TEST(a_notice_receiver_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  PQsetNoticeReceiver(pair.conn, receive, &pair);
  raise_notice(pair.conn);
  CHECK_INT(received, ==, 1);
  REQUIRE(lend_again(&pair));
  raise_notice(pair.conn);
  CHECK_INT(received, ==, 1);
  end_pair(&pair);
}

TEST(a_notice_processor_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  PQsetNoticeProcessor(pair.conn, process_notice, &pair);
  raise_notice(pair.conn);
  CHECK_INT(processed, ==, 1);
  REQUIRE(lend_again(&pair));
  raise_notice(pair.conn);
  CHECK_INT(processed, ==, 1);
  end_pair(&pair);
}

/* The first borrower is gone: what DISCARD ALL itself says must not call into his memory either. */
TEST(a_notice_during_the_reset_goes_to_nobody_who_is_gone) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  CHECK(sql_run(pair.conn, "create temp table isolation_parent (n int)"));
  PQsetNoticeReceiver(pair.conn, receive, &pair);
  int before = received;
  /* LOG messages of its own come to the client for every statement, the reset's too. */
  CHECK(sql_run(pair.conn, "set client_min_messages to log; set log_duration to on"));
  REQUIRE(lend_again(&pair));
  int during = received - before;
  raise_notice(pair.conn);
  CHECK_INT(received - before, ==, during);
  end_pair(&pair);
}

/* From the put on its receiver, processor and trace are the borrower's to throw away. */
static void check_callbacks_end_with_the_loan(int reset) {
  pool_options_t options = options_sized(0, 1);
  options.reset = reset;
  pool_t *pool = open_pool_with(&options);
  PGconn *conn = pool ? get_working(pool, POOL_TIMEOUT_DEFAULT) : NULL;
  REQUIRE(conn);
  CHECK(sql_run(conn, "set client_min_messages to log; set log_duration to on"));
  CHECK(sql_run(conn, "begin"));
  PQsetNoticeReceiver(conn, receive, pool);
  PQsetNoticeProcessor(conn, process_notice, pool);
  received = processed = 0;
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(received + processed, ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, opened), ==, 1);
  close_whole(pool);
}

TEST(a_full_reset_calls_nothing_of_the_borrowers) { check_callbacks_end_with_the_loan(POOL_RESET_DISCARD_ALL); }
TEST(a_rollback_calls_nothing_of_the_borrowers) { check_callbacks_end_with_the_loan(POOL_RESET_ROLLBACK); }

static void count_of_configure(void *context, const char *message) {
  (void)message;
  ++*(int *)context;
}

static int set_processor(void *context, void *conn) {
  PQsetNoticeProcessor(conn, count_of_configure, context);
  return 0;
}

static void check_processor_of_configure_stays(int reset) {
  int counted = 0;
  pool_options_t options = options_sized(0, 1);
  options.reset = reset;
  options.configure = set_processor;
  options.context = &counted;
  pool_t *pool = open_pool_with(&options);
  PGconn *conn = pool ? get_working(pool, POOL_TIMEOUT_DEFAULT) : NULL;
  REQUIRE(conn);
  CHECK(sql_run(conn, "begin"));
  PQsetNoticeReceiver(conn, receive, pool);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  raise_notice(conn);
  CHECK_INT(counted, ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, opened), ==, 1);
  close_whole(pool);
}

TEST(a_full_reset_leaves_what_configure_has_set) { check_processor_of_configure_stays(POOL_RESET_DISCARD_ALL); }
TEST(a_rollback_leaves_what_configure_has_set) { check_processor_of_configure_stays(POOL_RESET_ROLLBACK); }

enum ending { BY_ROLLBACK, BY_RESET, BY_DISCARD, BY_CLOSE };

static void check_trace_ends_with_the_loan(enum ending ending) {
  pool_options_t options = options_sized(0, 1);
  options.reset = ending == BY_RESET ? POOL_RESET_DISCARD_ALL : POOL_RESET_ROLLBACK;
  pool_t *pool = open_pool_with(&options);
  PGconn *conn = pool ? get_working(pool, POOL_TIMEOUT_DEFAULT) : NULL;
  FILE *trace = tmpfile();
  REQUIRE(conn && trace);
  int pid = PQbackendPID(conn);
  PQtrace(conn, trace);
  CHECK(sql_run(conn, ending == BY_ROLLBACK ? "begin" : "select 1"));
  if (ending == BY_CLOSE)
    CHECK_INT(pool_close(pool), ==, 0);
  long before = ftell(trace);
  CHECK(before > 0);
  CHECK_INT(ending == BY_DISCARD ? pool_discard(pool, conn) : pool_put(pool, conn), ==, 0);
  bool is_over = ending == BY_DISCARD || ending == BY_CLOSE;
  if (is_over)
    WAIT_FOR(5000, sql_number(observer(), "select count(*) from pg_stat_activity where pid = %d", pid) == 0);
  else
    CHECK_INT(pool_put(pool, get_working(pool, POOL_TIMEOUT_DEFAULT)), ==, 0);
  CHECK_INT(ftell(trace), ==, before);
  fclose(trace);
  if (ending != BY_CLOSE)
    close_whole(pool);
}

TEST(a_trace_has_nothing_of_the_rollback) { check_trace_ends_with_the_loan(BY_ROLLBACK); }
TEST(a_trace_has_nothing_of_the_reset) { check_trace_ends_with_the_loan(BY_RESET); }
TEST(a_trace_has_nothing_of_the_goodbye_after_a_discard) { check_trace_ends_with_the_loan(BY_DISCARD); }
TEST(a_trace_has_nothing_of_the_goodbye_after_a_close) { check_trace_ends_with_the_loan(BY_CLOSE); }

TEST(the_verbosity_of_errors_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  PQsetErrorVerbosity(pair.conn, PQERRORS_VERBOSE);
  PQsetErrorContextVisibility(pair.conn, PQSHOW_CONTEXT_NEVER);
  REQUIRE(lend_again(&pair));
  CHECK_INT(PQsetErrorVerbosity(pair.conn, PQERRORS_DEFAULT), ==, PQERRORS_DEFAULT);
  CHECK_INT(PQsetErrorContextVisibility(pair.conn, PQSHOW_CONTEXT_ERRORS), ==, PQSHOW_CONTEXT_ERRORS);
  end_pair(&pair);
}

/* A trace has the next borrower's queries and rows. */
TEST(a_trace_does_not_go_on) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  FILE *trace = tmpfile();
  REQUIRE(trace != NULL);
  PQtrace(pair.conn, trace);
  CHECK(works(pair.conn));
  fflush(trace);
  CHECK_INT(ftell(trace), >, 0);
  REQUIRE(lend_again(&pair));
  fflush(trace);
  long before = ftell(trace);
  CHECK(sql_run(pair.conn, "select 'a secret of the next one'"));
  fflush(trace);
  CHECK_INT(ftell(trace), ==, before);
  end_pair(&pair);
  fclose(trace);
}

TEST(notifications_do_not_wait_for_the_next_one) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  CHECK(sql_run(pair.conn, "listen isolation_channel"));
  CHECK(sql_run(pair.conn, "notify isolation_channel, 'mine'"));
  CHECK(sql_run(observer(), "notify isolation_channel, 'late'"));
  REQUIRE(lend_again(&pair));
  CHECK_INT(PQconsumeInput(pair.conn), ==, 1);
  PGnotify *notification = PQnotifies(pair.conn);
  CHECK(notification == NULL);
  PQfreemem(notification);
  end_pair(&pair);
}

TEST(a_client_encoding_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  int fresh = PQclientEncoding(pair.conn);
  CHECK_INT(PQsetClientEncoding(pair.conn, "LATIN1"), ==, 0);
  CHECK(PQclientEncoding(pair.conn) != fresh);
  REQUIRE(lend_again(&pair));
  CHECK_INT(PQclientEncoding(pair.conn), ==, fresh);
  char name[64];
  CHECK(sql_text(pair.conn, name, sizeof name, "show client_encoding"));
  CHECK_HAS(PQparameterStatus(pair.conn, "client_encoding"), name);
  end_pair(&pair);
}

/* libpq's quoting follows it: with the wrong one PQescapeStringConn() lets an injection through. */
TEST(the_way_of_quoting_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  char quoted[16];
  CHECK(sql_run(pair.conn, "set standard_conforming_strings to off"));
  CHECK_INT(PQescapeStringConn(pair.conn, quoted, "\\", 1, NULL), ==, 2);
  REQUIRE(lend_again(&pair));
  CHECK_INT(PQescapeStringConn(pair.conn, quoted, "\\", 1, NULL), ==, 1);
  end_pair(&pair);
}

TEST(the_last_error_does_not_stay) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  PQclear(PQexec(pair.conn, "select 'my secret'::int"));
  CHECK_HAS(PQerrorMessage(pair.conn), "my secret");
  CHECK_INT(pool_put(pair.pool, pair.conn), ==, 0);
  pair.conn = pool_get(pair.pool, slow(5000));
  REQUIRE(pair.conn);
  CHECK_LACKS(PQerrorMessage(pair.conn), "my secret");
  end_pair(&pair);
}

static int count_results(PGEventId event, void *details, void *context) {
  (void)details;
  if (event == PGEVT_RESULTCREATE)
    ++*(int *)context;
  return 1;
}

/* libpq cannot take them back: docs/security.md says so, and that pool_discard() is for them. */
TEST(event_procedures_and_their_data_stay_until_the_connection_is_discarded) {
  struct pair pair = first_loan();
  REQUIRE(pair.conn);
  int results = 0, data = 7;
  CHECK_INT(PQregisterEventProc(pair.conn, count_results, "isolation", &results), ==, 1);
  CHECK_INT(PQsetInstanceData(pair.conn, count_results, &data), ==, 1);
  REQUIRE(lend_again(&pair));
  CHECK(PQinstanceData(pair.conn, count_results) == &data);
  int before = results;
  CHECK(works(pair.conn));
  CHECK_INT(results, ==, before + 1);
  CHECK_INT(pool_discard(pair.pool, pair.conn), ==, 0);
  before = results;
  pair.conn = get_working(pair.pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(pair.conn);
  CHECK(PQinstanceData(pair.conn, count_results) == NULL);
  CHECK_INT(results, ==, before);
  end_pair(&pair);
}
