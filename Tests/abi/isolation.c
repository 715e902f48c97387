/* With reset=discard_all nothing that a borrower leaves in his session reaches the next one: each kind of state is
 * really left, seen to be there, and looked for by the next borrower of the same session. */
#include "pools.h"

#include <string.h>

static pool_t *open_strict_pool(void) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  return open_pool_with(&options);
}

static void answer(PGconn *conn, const char *question, char *text, size_t size) {
  CHECK(sql_text(conn, text, size, "%s", question));
}

/* `leave` is run by a borrower; `question` has another answer then, and its first one again for the next borrower. */
static void check_cleared(const char *leave, const char *question) {
  char fresh[256], left[256], found[256];
  pool_t *pool = open_strict_pool();
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  answer(conn, question, fresh, sizeof fresh);
  CHECK(sql_run(conn, "%s", leave));
  answer(conn, question, left, sizeof left);
  CHECK(strcmp(left, fresh) != 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  answer(conn, question, found, sizeof found);
  if (!CHECK(strcmp(found, fresh) == 0))
    fprintf(stderr, "    fresh: %s, left: %s, found: %s\n", fresh, left, found);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, reset_failures), ==, 0);
  close_whole(pool);
}

TEST(a_search_path_does_not_stay) { check_cleared("set search_path to pg_catalog", "show search_path"); }
TEST(a_temporary_table_does_not_stay) {
  check_cleared("create temp table isolation_left (n int)",
                "select count(*) from pg_class where relname = 'isolation_left' and relpersistence = 't'");
}
TEST(an_advisory_lock_does_not_stay) {
  check_cleared("select pg_advisory_lock(4712)",
                "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()");
}
TEST(a_listen_does_not_stay) {
  check_cleared("listen isolation_channel", "select count(*) from pg_listening_channels()");
}
TEST(a_prepared_statement_does_not_stay) {
  check_cleared("prepare isolation_statement as select 1", "select count(*) from pg_prepared_statements");
}
TEST(an_application_name_does_not_stay) { check_cleared("set application_name to 'left'", "show application_name"); }
TEST(a_role_does_not_stay) { check_cleared("set role pg_monitor", "select current_user"); }
TEST(a_session_authorization_does_not_stay) {
  create_role("isolation_other", "x", "");
  check_cleared("set session authorization isolation_other", "select session_user");
  drop_role("isolation_other");
}
TEST(a_cursor_with_hold_does_not_stay) {
  check_cleared("declare isolation_cursor cursor with hold for select 1", "select count(*) from pg_cursors");
}
TEST(a_timeout_does_not_stay) { check_cleared("set statement_timeout to '7min'", "show statement_timeout"); }
TEST(session_characteristics_do_not_stay) {
  check_cleared("set session characteristics as transaction read only", "show default_transaction_read_only");
}
TEST(a_time_zone_does_not_stay) { check_cleared("set time zone 'Asia/Kathmandu'", "show time zone"); }
/* What stays of it is its name: an empty text instead of NULL. */
TEST(the_value_of_a_custom_setting_does_not_stay) {
  check_cleared("set isolation.tenant to '4711'", "select coalesce(current_setting('isolation.tenant', true), '')");
}

/* It survives DISCARD ALL with a value of its own, so it is asked for otherwise. */
TEST(a_sequences_last_value_does_not_stay) {
  CHECK(sql_run(observer(), "drop sequence if exists isolation_sequence; create sequence isolation_sequence"));
  pool_t *pool = open_strict_pool();
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = PQbackendPID(conn);
  CHECK_INT(sql_number(conn, "select nextval('isolation_sequence')"), ==, 1);
  CHECK_INT(sql_number(conn, "select lastval()"), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  PGresult *result = PQexec(conn, "select lastval()");
  CHECK_HAS(PQresultErrorField(result, PG_DIAG_SQLSTATE), "55000");
  PQclear(result);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  CHECK(sql_run(observer(), "drop sequence isolation_sequence"));
}

/* A name that a borrower's table took over for him: temporary tables come first in every search path. */
TEST(a_temporary_table_does_not_stand_before_a_real_one) {
  CHECK(sql_run(observer(), "drop table if exists isolation_accounts; create table isolation_accounts (n int);"
                            " insert into isolation_accounts values (1)"));
  pool_t *pool = open_strict_pool();
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK(sql_run(conn, "create temp table isolation_accounts as select 666 as n"));
  CHECK_INT(sql_number(conn, "select n from isolation_accounts"), ==, 666);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(sql_number(conn, "select n from isolation_accounts"), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  CHECK(sql_run(observer(), "drop table isolation_accounts"));
}
