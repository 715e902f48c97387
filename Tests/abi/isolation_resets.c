/* Resets that have it hard: odd states, a cancel, a server that is silent. No state gets through, no slot is lost. */
#include "pools.h"
#include "proxy.h"

static pool_t *open_strict_pool(const char *conninfo, int check_timeout_ms) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  options.check_timeout_ms = check_timeout_ms;
  pool_t *pool = pool_create(conninfo, &options);
  CHECK(pool != NULL);
  return pool;
}

static void leave_failed_transaction(PGconn *conn) {
  CHECK(sql_run(conn, "begin"));
  PQclear(PQexec(conn, "select no_such_column"));
}

static void leave_copy(PGconn *conn) {
  CHECK(sql_run(conn, "create temp table isolation_copy (n int)"));
  PQclear(PQexec(conn, "copy isolation_copy from stdin"));
  CHECK_INT(PQputCopyData(conn, "1\n", 2), ==, 1);
}

static void leave_pipeline(PGconn *conn) {
  CHECK_INT(PQenterPipelineMode(conn), ==, 1);
  CHECK_INT(PQsendQueryParams(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), ==, 1);
  CHECK_INT(PQpipelineSync(conn), ==, 1);
}

static void leave_single_rows(PGconn *conn) {
  CHECK_INT(PQsendQuery(conn, "select generate_series(1, 100000)"), ==, 1);
  CHECK_INT(PQsetSingleRowMode(conn), ==, 1);
  PQclear(PQgetResult(conn));
}

static void leave_non_blocking(PGconn *conn) { CHECK_INT(PQsetnonblocking(conn, 1), ==, 0); }

/* Fails at the end of its transaction, which a rollback does not reach. */
static void leave_deferred_trap(PGconn *conn) {
  CHECK(sql_run(conn, "create temp table isolation_trap (n int unique deferrable initially deferred)"));
  CHECK(sql_run(conn, "begin; insert into isolation_trap values (1), (1)"));
}

TEST(in_whatever_state_it_is_put_the_next_one_gets_a_clean_one) {
  void (*const states[])(PGconn *) = {leave_failed_transaction, leave_copy,         leave_pipeline,
                                      leave_single_rows,        leave_non_blocking, leave_deferred_trap};
  pool_t *pool = open_strict_pool("", slow(5000));
  REQUIRE(pool);
  for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    CHECK(sql_run(conn, "set role pg_monitor; set search_path to pg_catalog; select pg_advisory_lock(4713)"));
    CHECK(sql_run(conn, "reset role"));
    states[i](conn);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    char path[64];
    CHECK(sql_text(conn, path, sizeof path, "show search_path"));
    CHECK_LACKS(path, "pg_catalog");
    CHECK_INT(sql_number(conn, "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"),
              ==, 0);
    CHECK_INT(sql_number(conn, "select count(*) from pg_class where relname like 'isolation_%%' and"
                               " relnamespace = pg_my_temp_schema()"), ==, 0);
    CHECK_INT(PQisnonblocking(conn), ==, 0);
    CHECK_INT(PQpipelineStatus(conn), ==, PQ_PIPELINE_OFF);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  close_whole(pool);
}


/* PostgreSQL keeps a cancel by a statement_timeout that ran out during DISCARD ALL, which had taken that timeout away:
 * the next borrower's first query failed of it. */
TEST(a_timeout_of_the_borrowers_own_hits_only_the_reset) {
  pool_t *pool = open_strict_pool("", slow(5000));
  REQUIRE(pool);
  for (int i = 0; i < 5; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    CHECK(sql_run(conn, "do $$ begin for i in 1..100 loop execute 'create temp table isolation_' || i || ' (n int)';"
                        " end loop; end $$"));
    CHECK(sql_run(conn, "set statement_timeout to 1"));
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  close_whole(pool);
}

/* A cancel request on its way when the connection was put hits the reset. */
TEST(a_reset_that_is_canceled_loses_its_connection) {
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  options.reset_query = "select pg_sleep(20)";
  options.check_timeout_ms = 20000;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  static const char sleeping[] = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid = %d";
  WAIT_FOR(5000, sql_number(observer(), sleeping, pid) == 1);
  CHECK_INT(sql_number(observer(), "select pg_cancel_backend(%d)::int", pid), ==, 1);
  conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  CHECK(PQbackendPID(conn) != pid);
  CHECK_INT(STAT(pool, reset_failures), ==, 1);
  CHECK_INT(pool_discard(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

/* check_timeout_ms bounds the reset, a second more the slot: then the silent server's end is no longer waited for. */
TEST(a_reset_at_a_silent_server_ends_and_its_slot_comes_back) {
  struct proxy *proxy = proxy_start();
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", proxy_port(proxy));
  pool_t *pool = open_strict_pool(conninfo, slow(300));
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  proxy_existing(proxy, PROXY_DARK);
  int64_t start = now_ms();
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(100));
  conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  int64_t took = now_ms() - start;
  CHECK_INT(took, >=, slow(299));
  CHECK_INT(took, <, slow(300) + slow(2000));
  CHECK_INT(STAT(pool, reset_failures), ==, 1);
  CHECK_INT(pool_discard(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_pool_is_closed_during_a_reset_at_a_silent_server) {
  struct proxy *proxy = proxy_start();
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", proxy_port(proxy));
  pool_t *pool = open_strict_pool(conninfo, slow(500));
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int before = open_descriptors();
  proxy_existing(proxy, PROXY_DARK);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  int64_t start = now_ms();
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(100));
  /* libpq's socket and the pool's duplicate of it. */
  WAIT_FOR(5000, open_descriptors() <= before - 2);
  proxy_stop(proxy);
}
