/* Sessions whose server takes no writes any more, and what target_session_attrs asks for. What a server reports when it
 * becomes read-only is reported here by a setting of the session's own. */
#include "pools.h"

#include <string.h>

static pool_t *open_target(const char *attributes, int reset) {
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "target_session_attrs=%s", attributes);
  pool_options_t options = options_sized(0, 1);
  options.reset = reset;
  pool_t *pool = pool_create(conninfo, &options);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    pool_create: %s\n", pool_errmsg());
  return pool;
}

/* Runs the statements, each to succeed or to fail, in one loan; whether the session is lent again. */
static bool is_kept(pool_t *pool, const char *const *statements) {
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  if (!conn)
    return false;
  int pid = PQbackendPID(conn);
  for (; *statements; statements++)
    PQclear(PQexec(conn, *statements));
  CHECK_INT(PQstatus(conn), ==, CONNECTION_OK);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  bool kept = conn && PQbackendPID(conn) == pid;
  CHECK_INT(pool_put(pool, conn), ==, 0);
  return kept;
}

#define IS_KEPT(pool, ...) is_kept(pool, (const char *const[]){__VA_ARGS__, NULL})
#define WRITE "create temporary table abi_written as select 1"
#define REFUSED "create table abi_refused ()"

TEST(a_session_that_failed_to_write_because_its_server_is_read_only_is_replaced) {
  pool_t *pool = open_target("any", POOL_RESET_ROLLBACK);
  REQUIRE(pool);
  CHECK(!IS_KEPT(pool, "set default_transaction_read_only = on", REFUSED));
  CHECK(!IS_KEPT(pool, "set default_transaction_read_only = on", "begin", "select 1", REFUSED, "rollback"));
  CHECK_INT(STAT(pool, discarded), ==, 2);
  close_whole(pool);
}

TEST(a_read_only_transaction_of_the_borrowers_own_spoils_nothing) {
  pool_t *pool = open_target("any", POOL_RESET_ROLLBACK);
  REQUIRE(pool);
  /* An older server does not tell which of both it is. */
  bool tells = sql_number(observer(), "select current_setting('server_version_num')::int") >= 140000;
  CHECK_INT(IS_KEPT(pool, "begin read only", REFUSED, "rollback"), ==, tells);
  CHECK_INT(IS_KEPT(pool, "begin read only", REFUSED), ==, tells);
  CHECK(IS_KEPT(pool, "set default_transaction_read_only = on", "select 1"));
  close_whole(pool);
}

TEST(a_session_that_is_no_longer_what_was_asked_for_is_replaced_unasked) {
  static const char *const attributes[] = {"read-write", "primary", "any"};
  static const bool kept[] = {false, true, true};
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    pool_t *pool = open_target(attributes[i], POOL_RESET_ROLLBACK);
    REQUIRE(pool);
    CHECK(IS_KEPT(pool, "select 1"));
    if (!CHECK_INT(IS_KEPT(pool, "set default_transaction_read_only = on"), ==, kept[i]))
      fprintf(stderr, "    with %s\n", attributes[i]);
    close_whole(pool);
  }
}

TEST(what_a_rollback_or_a_reset_puts_right_is_looked_at_afterwards) {
  pool_t *pool = open_target("read-write", POOL_RESET_ROLLBACK);
  REQUIRE(pool);
  CHECK(IS_KEPT(pool, "begin", "set local default_transaction_read_only = on"));
  CHECK(!IS_KEPT(pool, "begin", "set default_transaction_read_only = on", "commit", "begin"));
  close_whole(pool);
  pool = open_target("read-write", POOL_RESET_DISCARD_ALL);
  REQUIRE(pool);
  CHECK(IS_KEPT(pool, "set default_transaction_read_only = on"));
  CHECK(IS_KEPT(pool, "begin", "set default_transaction_read_only = on", "commit", "begin"));
  close_whole(pool);
}

static int make_read_only(void *context, void *conn) {
  (void)context;
  return !sql_run(conn, "set default_transaction_read_only = on");
}

/* Otherwise each put would replace the session, for ever. */
TEST(what_configure_made_of_a_session_is_what_it_has_to_be) {
  pool_options_t options = options_sized(0, 1);
  options.configure = make_read_only;
  pool_t *pool = pool_create("target_session_attrs=read-write", &options);
  REQUIRE(pool);
  CHECK(IS_KEPT(pool, "select 1"));
  CHECK(IS_KEPT(pool, "set default_transaction_read_only = off"));
  close_whole(pool);
}

TEST(a_session_that_was_to_be_read_only_is_replaced_when_it_takes_writes) {
  pool_options_t options = options_sized(0, 1);
  /* libpq looks at what the server says first, so the setting comes with the start of the session. */
  pool_t *pool = pool_create("target_session_attrs=read-only options='-c default_transaction_read_only=on'", &options);
  REQUIRE(pool);
  CHECK(IS_KEPT(pool, REFUSED));
  CHECK(IS_KEPT(pool, REFUSED));
  CHECK(!IS_KEPT(pool, "set default_transaction_read_only = off"));
  close_whole(pool);
}

/* There is no standby: a session on the primary is second best, and replacing it would bring the same again. */
TEST(prefer_standby_keeps_a_session_on_the_primary) {
  pool_t *pool = open_target("prefer-standby", POOL_RESET_ROLLBACK);
  REQUIRE(pool);
  CHECK(IS_KEPT(pool, "select 1"));
  CHECK(IS_KEPT(pool, WRITE));
  close_whole(pool);
}
