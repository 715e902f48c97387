/* With reset=discard_all nothing that a borrower leaves in his session reaches the next one: each kind of state is
 * really left, seen to be there, and looked for by the next borrower of the same session. What PostgreSQL leaves all the
 * same, docs/security.md tells: that is seen to stay. */
#include "pools.h"

#include <string.h>
#include <unistd.h>

static pool_t *open_strict_pool_at(const char *conninfo) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  pool_t *pool = pool_create(conninfo, &options);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    pool_create: %s\n", pool_errmsg());
  return pool;
}

static pool_t *open_strict_pool(void) { return open_strict_pool_at(""); }

static void answer(PGconn *conn, const char *question, char *text, size_t size) {
  CHECK(sql_text(conn, text, size, "%s", question));
}

struct answers {
  char fresh[256], left[256], found[256];
};

/* `leave` is run by a borrower: what `question` gives before and after it, and for the next one. */
static struct answers ask_two_borrowers(const char *conninfo, const char *leave, const char *question) {
  struct answers answers = {"", "", ""};
  pool_t *pool = open_strict_pool_at(conninfo);
  PGconn *conn = pool ? get_working(pool, POOL_TIMEOUT_DEFAULT) : NULL;
  if (!conn)
    return answers;
  int pid = PQbackendPID(conn);
  answer(conn, question, answers.fresh, sizeof answers.fresh);
  CHECK(sql_run(conn, "%s", leave));
  answer(conn, question, answers.left, sizeof answers.left);
  CHECK(strcmp(answers.left, answers.fresh) != 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  answer(conn, question, answers.found, sizeof answers.found);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, reset_failures), ==, 0);
  close_whole(pool);
  return answers;
}

static void check_found(const struct answers *answers, const char *wanted) {
  if (!CHECK(strcmp(answers->found, wanted) == 0))
    fprintf(stderr, "    fresh: %s, left: %s, found: %s\n", answers->fresh, answers->left, answers->found);
}

static void check_cleared(const char *leave, const char *question) {
  struct answers answers = ask_two_borrowers("", leave, question);
  check_found(&answers, answers.fresh);
}

static void check_stays(const char *leave, const char *question) {
  struct answers answers = ask_two_borrowers("", leave, question);
  check_found(&answers, answers.left);
}

/* `fresh` is what the session begins with, by its conninfo or its role. */
static void check_comes_back(const char *conninfo, const char *leave, const char *question, const char *fresh) {
  struct answers answers = ask_two_borrowers(conninfo, leave, question);
  CHECK(strcmp(answers.fresh, fresh) == 0);
  check_found(&answers, fresh);
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

/* ---------------------------------------------------------------------------------- what a session began with */

TEST(a_setting_of_the_conninfo_comes_back) {
  check_comes_back("options='-c search_path=pg_catalog'", "set search_path to public", "show search_path", "pg_catalog");
  check_comes_back("options='-c statement_timeout=7min'", "reset all; set statement_timeout to 0", "show statement_timeout",
                   "7min");
}

TEST(a_role_of_the_conninfo_comes_back) {
  check_comes_back("options='-c role=pg_monitor'", "set role none", "select current_user", "pg_monitor");
}

TEST(a_setting_of_the_role_comes_back) {
  create_role("isolation_set", "set", "");
  CHECK(sql_run(observer(), "alter role isolation_set set statement_timeout to '7min'"));
  check_comes_back("user=isolation_set password=set", "set statement_timeout to '1min'", "show statement_timeout", "7min");
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'isolation_set'") == 0);
  drop_role("isolation_set");
}

/* ------------------------------------------------------------------------------------- what DISCARD ALL leaves */

TEST(a_custom_setting_stays_as_an_empty_text) {
  check_stays("set isolation.tenant to '4711'", "select current_setting('isolation.tenant', true) is null");
  struct answers answers =
      ask_two_borrowers("", "set isolation.tenant to '4711'", "select current_setting('isolation.tenant', true) = ''");
  check_found(&answers, "t");
  /* What the page recommends. */
  check_cleared("set isolation.tenant to '4711'", "select nullif(current_setting('isolation.tenant', true), '') is null");
}

TEST(a_seed_stays) {
  char wanted[64], found[64];
  CHECK(sql_run(observer(), "select setseed(0.25)"));
  answer(observer(), "select random()", wanted, sizeof wanted);
  pool_t *pool = open_strict_pool();
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = PQbackendPID(conn);
  CHECK(sql_run(conn, "select setseed(0.25)"));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(PQbackendPID(conn), ==, pid);
  answer(conn, "select random()", found, sizeof found);
  CHECK(strcmp(found, wanted) == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_loaded_library_stays) {
  check_stays("load 'plpgsql'", "select count(*) from pg_settings where name = 'plpgsql.variable_conflict'");
}

TEST(a_replication_origin_stays) {
  if (sql_number(observer(), "select rolsuper::int from pg_roles where rolname = current_user") != 1) {
    printf("    not tried: it takes a superuser\n");
    return;
  }
  CHECK(sql_run(observer(), "select pg_replication_origin_create('isolation_origin')"));
  check_stays("select pg_replication_origin_session_setup('isolation_origin')",
              "select pg_replication_origin_session_is_setup()");
  /* It can be dropped when the session that has it is gone. */
  WAIT_FOR(5000, sql_number(observer(), "select count(*) from pg_stat_activity where application_name like 'abi-%d-%%'",
                            (int)getpid()) == 0);
  CHECK(sql_run(observer(), "select pg_replication_origin_drop('isolation_origin')"));
}

TEST(a_named_connection_of_dblink_stays) {
  if (sql_number(observer(), "select count(*) from pg_available_extensions where name = 'dblink'") == 0) {
    printf("    not tried: dblink is not installed\n");
    return;
  }
  CHECK(sql_run(observer(), "create extension if not exists dblink"));
  char leave[512];
  snprintf(leave, sizeof leave, "select dblink_connect('isolation_link', 'host=%s port=%d user=%s password=%s dbname=%s')",
           server_host(), server_port(), PQuser(observer()), PQpass(observer()), PQdb(observer()));
  check_stays(leave, "select coalesce(array_length(dblink_get_connections(), 1), 0)");
  CHECK(sql_run(observer(), "drop extension dblink"));
}
