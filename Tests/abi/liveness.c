/* Sessions that die, freeze or fall silent. */
#include "pools.h"
#include "proxy.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* After all sessions were killed 40 loans do their work. The worst time in ms; negative: one failed. */
static int64_t work_after_a_massacre(void *context) {
  pool_options_t options = options_sized(10, 10);
  options.check = *(int *)context;
  options.acquire_timeout_ms = slow(2000);
  pool_t *pool = open_pool_with(&options);
  if (!pool || pool_wait(pool, slow(10000)) != 0)
    return -1;
  CHECK_INT(terminate_sessions(options.name), ==, 10);
  int64_t worst = 0, start = now_ms();
  for (int i = 0; i < 40; i++) {
    int64_t begin = now_ms();
    PGconn *conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
    CHECK(conn != NULL);
    CHECK(works(conn));
    CHECK_INT(pool_put(pool, conn), ==, 0);
    worst = now_ms() - begin > worst ? now_ms() - begin : worst;
  }
  WAIT_FOR(3000, STAT(pool, idle) == 10);
  int64_t whole = now_ms() - start;
  CHECK_INT(whole, <, slow(3000));
  CHECK_INT(STAT(pool, lost), ==, 10);
  CHECK_INT(sessions(options.name), ==, 10);
  close_whole(pool);
  return worst;
}

TEST_LIMIT(killed_sessions_are_noticed_by_the_socket_check, 60) {
  int check = POOL_CHECK_SOCKET;
  CHECK_WITHIN(250, 3, work_after_a_massacre, &check);
}

TEST_LIMIT(killed_sessions_are_noticed_by_the_ping_check, 60) {
  int check = POOL_CHECK_PING;
  CHECK_WITHIN(250, 3, work_after_a_massacre, &check);
}

TEST(killed_sessions_leave_the_pool_by_themselves) {
  pool_options_t options = options_sized(5, 5);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(terminate_sessions(options.name), ==, 5);
  WAIT_FOR(2000, STAT(pool, lost) == 5);
  WAIT_FOR(2000, STAT(pool, idle) == 5);
  CHECK_INT(sessions(options.name), ==, 5);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_session_killed_while_lent_is_replaced_when_put) {
  pool_options_t options = options_sized(1, 1);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(terminate_sessions(options.name), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(STAT(pool, lost) + STAT(pool, discarded), ==, 1);
  close_whole(pool);
}

TEST(sessions_that_the_server_ends_for_idleness_are_replaced) {
  pool_options_t options = options_sized(2, 2);
  pool_t *pool = pool_create("options='-c idle_session_timeout=200'", &options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  WAIT_FOR(5000, STAT(pool, lost) >= 2);
  options.check = POOL_CHECK_SOCKET;
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

static pool_t *proxied_pool(struct proxy *proxy, int max_size, const char *more) {
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo,
           "host=127.0.0.1 port=%d pool_min_size=%d pool_max_size=%d pool_check=ping pool_check_after_idle=0 "
           "pool_connect_timeout=2s %s",
           proxy_port(proxy), max_size, max_size, more);
  pool_t *pool = pool_create(conninfo, NULL);
  CHECK(pool != NULL);
  if (pool)
    CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  return pool;
}

TEST(a_ping_to_a_silent_peer_ends_at_the_callers_deadline) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = proxied_pool(proxy, 1, "pool_check_timeout=60s");
  REQUIRE(pool);
  proxy_existing(proxy, PROXY_DARK);
  proxy_new(proxy, PROXY_DARK);
  nap_ms(5); /* so that it has been idle for longer than check_after_idle */
  int64_t start = now_ms();
  CHECK(pool_get(pool, slow(1000)) == NULL);
  CHECK(pool_errcode() == POOL_ECONNECT || pool_errcode() == POOL_ETIMEOUT);
  CHECK_INT(now_ms() - start, >=, slow(1000) - 1);
  CHECK_INT(now_ms() - start, <, slow(1250));
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_silent_connection_is_replaced_after_the_check_timeout) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = proxied_pool(proxy, 1, "pool_check_timeout=300ms");
  REQUIRE(pool);
  proxy_existing(proxy, PROXY_DARK);
  nap_ms(5); /* so that it has been idle for longer than check_after_idle */
  int64_t start = now_ms();
  /* 300 ms of check, 1 s until a slot whose peer says nothing is free again, and a connect. */
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(now_ms() - start, <, slow(3000));
  CHECK_INT(STAT(pool, check_failures), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(one_silent_connection_among_good_ones_costs_one_check) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = proxied_pool(proxy, 1, "pool_check_timeout=300ms");
  REQUIRE(pool);
  proxy_existing(proxy, PROXY_DARK);
  CHECK_INT(pool_resize(pool, 3, 3), ==, 0);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  for (int i = 0; i < 10; i++) {
    PGconn *conn = get_working(pool, slow(5000));
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_reset_connection_is_noticed) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = proxied_pool(proxy, 3, "");
  REQUIRE(pool);
  proxy_existing(proxy, PROXY_RESET);
  for (int i = 0; i < 10; i++) {
    PGconn *conn = get_working(pool, slow(5000));
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(STAT(pool, lost) + STAT(pool, check_failures), >=, 1);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_ping_is_sent_only_after_idleness) {
  pool_options_t options = options_sized(1, 1);
  options.check = POOL_CHECK_PING;
  options.check_after_idle_ms = 60000;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  for (int i = 0; i < 50; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(STAT(pool, checks), ==, 0);
  close_whole(pool);
  options.check_after_idle_ms = 50;
  pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  nap_ms(300); /* idleness itself is what is tested; times are coarse by 100 ms */
  conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(STAT(pool, checks), >=, 1);
  CHECK_INT(STAT(pool, check_failures), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

/* ------------------------------------------------------------------------------------- frozen backends */

static bool freeze(int pid, bool frozen) { return kill(pid, frozen ? SIGSTOP : SIGCONT) == 0; }

TEST(a_frozen_session_is_given_up_and_leaves_nothing_behind) {
  pool_options_t options = options_sized(1, 1);
  options.check = POOL_CHECK_PING;
  options.check_after_idle_ms = 0;
  options.check_timeout_ms = slow(300);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  nap_ms(5); /* so that it has been idle for longer than check_after_idle */
  REQUIRE(freeze(pid, true));
  int64_t start = now_ms();
  conn = pool_get(pool, slow(4000));
  int64_t took = now_ms() - start;
  bool fine = conn != NULL && works(conn);
  CHECK(freeze(pid, false));
  CHECK(fine);
  CHECK_INT(took, <, slow(3000));
  CHECK(conn && PQbackendPID(conn) != pid);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  WAIT_FOR(3000, sessions(options.name) == 1);
  close_whole(pool);
}

TEST(a_put_to_a_frozen_session_does_not_wait) {
  pool_options_t options = options_sized(1, 1);
  options.check_timeout_ms = slow(300);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK(sql_run(conn, "begin"));
  REQUIRE(freeze(pid, true));
  int64_t start = now_ms();
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(100));
  conn = pool_get(pool, slow(4000));
  bool fine = conn != NULL && works(conn);
  CHECK(freeze(pid, false));
  CHECK(fine);
  CHECK_INT(STAT(pool, reset_failures), ==, 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  WAIT_FOR(3000, sessions(options.name) == 1);
  close_whole(pool);
}

TEST(closing_with_a_frozen_session_does_not_wait) {
  pool_options_t options = options_sized(2, 2);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  REQUIRE(freeze(pid, true));
  int64_t start = now_ms();
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(200));
  CHECK(freeze(pid, false));
  WAIT_FOR(3000, sessions(options.name) == 0);
}

TEST(a_frozen_session_holds_up_no_other_pool) {
  pool_options_t options = options_sized(1, 1);
  options.check_timeout_ms = slow(5000);
  pool_t *frozen = open_pool_with(&options), *healthy = open_pool(1, 1);
  REQUIRE(frozen && healthy);
  PGconn *conn = get_working(frozen, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int pid = PQbackendPID(conn);
  CHECK(sql_run(conn, "begin"));
  REQUIRE(freeze(pid, true));
  CHECK_INT(pool_put(frozen, conn), ==, 0);
  /* Its rollback is stuck now; the other pool's is not. */
  for (int i = 0; i < 10; i++) {
    int64_t start = now_ms();
    conn = get_working(healthy, slow(2000));
    CHECK(sql_run(conn, "begin"));
    CHECK_INT(pool_put(healthy, conn), ==, 0);
    CHECK_INT(now_ms() - start, <, slow(1000));
  }
  CHECK(freeze(pid, false));
  close_whole(healthy);
  WAIT_FOR(5000, STAT(frozen, idle) == 1);
  close_whole(frozen);
}
