/* Servers that refuse, drop, keep silent, or are full. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pool_t *pool_at(int port, const char *more) {
  char conninfo[512];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d sslmode=disable %s", port, more);
  pool_t *pool = pool_create(conninfo, NULL);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    pool_create: %s\n", pool_errmsg());
  return pool;
}

/* --------------------------------------------------------------------------------- a server that is away */

struct caller {
  pool_t *pool;
  atomic_bool *stop;
  _Atomic int64_t *first_success;
  _Atomic int64_t *last_error;
};

static void *call_all_the_time(void *argument) {
  struct caller *caller = argument;
  while (!atomic_load(caller->stop)) {
    void *conn = pool_get(caller->pool, slow(500));
    int64_t none = 0;
    if (conn) {
      atomic_compare_exchange_strong(caller->first_success, &none, now_ms());
      CHECK_INT(pool_put(caller->pool, conn), ==, 0);
      nap_ms(1);
    } else {
      CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
      atomic_store(caller->last_error, now_ms());
    }
  }
  return NULL;
}

/* A server that resets each connection, for `ms`, under 20 callers; then it is back. Counts of a whole outage. */
static void survive_outage(int ms, int most_attempts) {
  enum { CALLERS = 20 };
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_RESET);
  pool_t *pool = pool_at(proxy_port(proxy), "pool_max_size=4");
  REQUIRE(pool);
  atomic_bool stop = false;
  _Atomic int64_t first_success = 0, last_error = 0;
  struct caller caller = {pool, &stop, &first_success, &last_error};
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++)
    pthread_create(&threads[i], NULL, call_all_the_time, &caller);
  nap_ms(ms);
  CHECK_INT(proxy_accepted(proxy), >=, 2);
  CHECK_INT(proxy_accepted(proxy), <=, most_attempts);
  CHECK(pool_get(pool, 10) == NULL);
  CHECK_HAS(pool_errmsg(), "connection to server");
  int64_t back = now_ms();
  proxy_new(proxy, PROXY_PASS);
  int64_t late_us = 0;
  while (atomic_load(&first_success) == 0 && now_ms() - back < slow(5000))
    late_us += nap_late_us(10);
  REQUIRE(atomic_load(&first_success) != 0);
  /* Within a second, and what the machine was late meanwhile. */
  int64_t bound = slow(1000) + late_us / 1000;
  printf("    the first success after %jd ms, the last error after %jd ms; the machine was late by %jd ms\n",
         (intmax_t)(atomic_load(&first_success) - back), (intmax_t)(atomic_load(&last_error) - back), (intmax_t)late_us / 1000);
  CHECK_INT(atomic_load(&first_success) - back, <=, bound);
  WAIT_FOR(5000, STAT(pool, idle) + STAT(pool, in_use) >= 1);
  nap_ms(1000); /* the time after which there must be no more errors */
  atomic_store(&stop, true);
  for (int i = 0; i < CALLERS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(atomic_load(&last_error) - back, <=, bound);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(an_outage_is_probed_gently_and_its_end_is_noticed) { survive_outage(3000, 12); }

LONG_TEST(ten_seconds_of_outage_see_at_most_twenty_attempts, 60) { survive_outage(10000, 20); }

static void *borrow(void *pool) { return pool_get(pool, slow(8000)); }

/* The wait for the first login is not the others' own: theirs takes as long, and more than what is left. */
TEST(logins_that_wait_for_the_first_have_their_own_time) {
  enum { BORROWERS = 3 };
  pool_t *pool = pool_at(server_port(), "pool_max_size=3 pool_connect_timeout=3s options='-c post_auth_delay=2'");
  REQUIRE(pool);
  pthread_t threads[BORROWERS];
  void *conns[BORROWERS];
  for (int i = 0; i < BORROWERS; i++)
    pthread_create(&threads[i], NULL, borrow, pool);
  for (int i = 0; i < BORROWERS; i++)
    pthread_join(threads[i], &conns[i]);
  for (int i = 0; i < BORROWERS; i++)
    if (CHECK(conns[i] != NULL))
      CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  CHECK_INT(STAT(pool, opened), ==, BORROWERS);
  close_whole(pool);
}

TEST(one_attempt_at_a_time_probes_a_silent_server) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  pool_t *pool = pool_at(proxy_port(proxy), "pool_max_size=8 pool_min_size=8 pool_connect_timeout=300ms");
  REQUIRE(pool);
  WAIT_FOR(5000, STAT(pool, connect_failures) >= 8);
  int most = 0;
  /* The first volley is over; from now on there is one prober. */
  nap_ms(400);
  for (int64_t end = now_ms() + slow(1500); now_ms() < end; nap_ms(2)) {
    int connecting = (int)STAT(pool, connecting);
    most = connecting > most ? connecting : most;
  }
  CHECK_INT(most, <=, 1);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(a_garbled_answer_is_a_failed_connect) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_GARBAGE);
  pool_t *pool = pool_at(proxy_port(proxy), "pool_connect_timeout=1s");
  REQUIRE(pool);
  int64_t start = now_ms();
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_INT(now_ms() - start, <, slow(750));
  proxy_new(proxy, PROXY_PASS);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

/* ------------------------------------------------------------------------- errors that will not go away */

static void check_permanent(const char *conninfo, const char *words) {
  pool_options_t options = options_sized(1, 4);
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  int64_t start = now_ms();
  CHECK_INT(pool_wait(pool, slow(10000)), ==, POOL_ECONNECT);
  CHECK_INT(now_ms() - start, <, slow(1500));
  CHECK_HAS(pool_errmsg(), words);
  CHECK(pool_get(pool, slow(300)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), words);
  /* No storm, for the sake of servers that lock accounts: at most one more in 5 s, so at most 2 in these 2 s. */
  for (int64_t end = now_ms() + slow(2000); now_ms() < end;)
    CHECK(pool_get(pool, slow(200)) == NULL);
  CHECK_INT(STAT(pool, connect_failures), <=, is_slow_run() ? 10 : 2);
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST(a_wrong_password_fails_early_in_the_servers_words) {
  create_role("abi_wrong", "right", "");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_wrong password=wrong sslmode=disable", server_host(),
           server_port());
  check_permanent(conninfo, "password authentication failed");
  drop_role("abi_wrong");
}

/* Servers lock accounts after a few failed logins: all ten connections of a new pool had tried at once. */
TEST(a_wrong_password_is_tried_once_however_many_connections_are_wanted) {
  create_role("abi_once", "right", "");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_once password=wrong pool_min_size=10", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(4000)), ==, POOL_ECONNECT);
  observe_ms(1000);
  CHECK_INT(STAT(pool, connect_failures), ==, 1);
  CHECK_INT(STAT(pool, connecting), ==, 0); /* those that waited with their password have given up */
  CHECK_INT(pool_close(pool), ==, 0);
  drop_role("abi_once");
}

TEST(a_missing_database_fails_early_in_the_servers_words) {
  check_permanent("dbname=abi_no_such_database", "does not exist");
}

TEST(a_corrected_password_is_noticed) {
  create_role("abi_late", "first", "");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_late password=second sslmode=disable", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK(sql_run(observer(), "alter role abi_late password 'second'"));
  /* One attempt in 5 s is what such an error allows. */
  PGconn *conn = get_working(pool, slow(10000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_late'") == 0);
  drop_role("abi_late");
}

TEST(pool_reconnect_tries_a_corrected_password_at_once) {
  create_role("abi_soon", "first", "");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_soon password=second sslmode=disable", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK(sql_run(observer(), "alter role abi_soon password 'second'"));
  CHECK_INT(pool_reconnect(pool), ==, 0);
  int64_t start = now_ms();
  PGconn *conn = get_working(pool, slow(4000));
  CHECK_INT(now_ms() - start, <, slow(2000)); /* not after the 5 s that such an error makes attempts wait */
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_soon'") == 0);
  drop_role("abi_soon");
}

/* ----------------------------------------------------------------------------------------- too many clients */

TEST(a_full_server_is_not_asked_for_more_than_is_needed) {
  create_role("abi_full", "full", "connection limit 1");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_full password=full pool_max_size=3", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  PGconn *held = get_working(pool, slow(5000));
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(10000), &ticket), ==, 0);
  WAIT_FOR(5000, STAT(pool, connect_failures) >= 1);
  CHECK_INT(pool_get_cancel(pool, ticket), ==, 0);
  WAIT_FOR(5000, STAT(pool, connecting) == 0);
  CHECK_INT(pool_discard(pool, held), ==, 0);
  /* Nobody waits: the room is left to others. In these 1.2 s a replacement would come. */
  observe_ms(1200);
  CHECK_INT(STAT(pool, opened), ==, 1);
  CHECK_INT(STAT(pool, total), ==, 0);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_full'") == 0);
  drop_role("abi_full");
}

TEST(those_that_fit_are_served_when_the_server_is_full) {
  create_role("abi_few", "few", "connection limit 2");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_few password=few pool_max_size=5", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  PGconn *first = get_working(pool, slow(5000)), *second = get_working(pool, slow(5000));
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK(pool_errcode() == POOL_ETIMEOUT || pool_errcode() == POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "too many connections");
  CHECK_INT(pool_put(pool, first), ==, 0);
  first = get_working(pool, 0);
  int64_t start = now_ms();
  CHECK(sql_run(observer(), "alter role abi_few connection limit 5"));
  PGconn *third = get_working(pool, slow(5000));
  CHECK_INT(now_ms() - start, <, slow(2000));
  CHECK_INT(pool_put(pool, first), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  CHECK_INT(pool_put(pool, third), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_few'") == 0);
  drop_role("abi_few");
}

TEST(threads_share_what_a_full_server_gives) {
  create_role("abi_share", "share", "connection limit 2");
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_share password=share pool_max_size=6", server_host(),
           server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  struct load *load = start_load(pool, 10, 1000);
  nap_ms(slow(1500));
  struct load_result result = stop_load(load);
  CHECK_INT(result.errors, ==, 0);
  CHECK_INT(result.fewest, >, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_share'") == 0);
  drop_role("abi_share");
}

/* -------------------------------------------------------------------------------------------- several hosts */

static pool_t *pool_of_two_hosts(int first_port) {
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1,%s port=%d,%d pool_max_size=2 pool_connect_timeout=1s", server_host(),
           first_port, server_port());
  pool_t *pool = pool_create(conninfo, NULL);
  CHECK(pool != NULL);
  return pool;
}

static void check_second_host(int first_port, int limit_ms) {
  pool_t *pool = pool_of_two_hosts(first_port);
  REQUIRE(pool);
  int64_t start = now_ms();
  PGconn *conn = get_working(pool, slow(8000));
  CHECK_INT(now_ms() - start, <, slow(limit_ms));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

enum { SILENT_LIMIT = 2000 }; /* the connect timeout and one second */

TEST(the_second_host_serves_when_the_first_is_silent) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  check_second_host(proxy_port(proxy), SILENT_LIMIT);
  proxy_stop(proxy);
}

TEST(the_second_host_serves_when_the_first_drops_packets) {
  struct dropper dropper;
  if (dropper_start(&dropper) == 0)
    check_second_host(dropper.port, SILENT_LIMIT);
  else
    CHECK(!"a port that drops packets");
  dropper_stop(&dropper);
}

/* Each attempt that runs into the silent host is followed by one that starts behind it. */
TEST(the_attempt_after_a_silent_host_starts_behind_it) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  pool_t *pool = pool_of_two_hosts(proxy_port(proxy));
  REQUIRE(pool);
  PGconn *conns[2];
  for (int i = 0; i < 2; i++) {
    int64_t start = now_ms();
    conns[i] = get_working(pool, slow(8000));
    CHECK_INT(now_ms() - start, <, slow(SILENT_LIMIT));
    CHECK_INT(STAT(pool, connect_failures), ==, 1);
  }
  CHECK_INT(proxy_accepted(proxy), ==, 1);
  for (int i = 0; i < 2; i++)
    CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

/* The other way round: the silence begins when the pool is in use, and its sessions are gone. */
TEST(the_second_host_takes_over_when_the_first_goes_silent) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = pool_of_two_hosts(proxy_port(proxy));
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(atoi(PQport(conn)), ==, proxy_port(proxy));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  proxy_new(proxy, PROXY_DARK);
  proxy_existing(proxy, PROXY_RESET);
  WAIT_FOR(2000, STAT(pool, lost) == 1);
  int64_t start = now_ms();
  conn = get_working(pool, slow(8000));
  CHECK_INT(now_ms() - start, <, slow(SILENT_LIMIT));
  CHECK_INT(atoi(PQport(conn)), ==, server_port());
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

TEST(the_second_host_serves_when_the_first_refuses) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_REFUSE);
  check_second_host(proxy_port(proxy), 1500);
  proxy_stop(proxy);
}

TEST(the_connect_timeout_of_the_conninfo_counts) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  pool_t *pool = pool_at(proxy_port(proxy), "pool_min_size=1 pool_max_size=1 connect_timeout=2");
  REQUIRE(pool);
  int64_t start = now_ms();
  WAIT_FOR(5000, STAT(pool, connect_failures) >= 1);
  CHECK_INT(now_ms() - start, >=, 1900);
  CHECK_INT(now_ms() - start, <, slow(3500));
  CHECK_INT(pool_close(pool), ==, 0);
  pool = pool_at(proxy_port(proxy), "pool_min_size=1 pool_max_size=1 connect_timeout=20 pool_connect_timeout=200ms");
  REQUIRE(pool);
  start = now_ms();
  WAIT_FOR(5000, STAT(pool, connect_failures) >= 1);
  CHECK_INT(now_ms() - start, <, slow(2000));
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}

/* ------------------------------------------------------------------------------------- other pools go on */

TEST(a_pool_of_a_silent_server_holds_up_no_other) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  pool_t *dark[4], *healthy = open_pool(0, 10);
  REQUIRE(healthy);
  for (int i = 0; i < 4; i++)
    dark[i] = pool_at(proxy_port(proxy), "pool_min_size=30 pool_max_size=30");
  WAIT_FOR(5000, proxy_accepted(proxy) >= 4);
  int64_t start = now_ms();
  void *conns[10];
  for (int i = 0; i < 10; i++)
    conns[i] = get_working(healthy, slow(5000));
  CHECK_INT(now_ms() - start, <, slow(3000));
  for (int i = 0; i < 10; i++)
    CHECK_INT(pool_put(healthy, conns[i]), ==, 0);
  CHECK_INT(pool_close(healthy), ==, 0);
  for (int i = 0; i < 4; i++)
    CHECK_INT(pool_close(dark[i]), ==, 0);
  proxy_stop(proxy);
}

TEST(a_pool_is_whole_again_after_the_network_was_cut) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = pool_at(proxy_port(proxy), "pool_min_size=5 pool_max_size=5 pool_check=socket");
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  for (int round = 0; round < 3; round++) {
    proxy_new(proxy, PROXY_REFUSE);
    proxy_existing(proxy, PROXY_RESET);
    CHECK(pool_get(pool, 200) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
    proxy_new(proxy, PROXY_PASS);
    WAIT_FOR(5000, STAT(pool, idle) == 5);
    PGconn *conn = get_working(pool, slow(5000));
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  close_whole(pool);
  proxy_stop(proxy);
}

/* The disposition of SIGPIPE is the program's own. */
TEST(writing_to_a_dead_session_raises_no_signal) {
  struct proxy *proxy = proxy_start();
  pool_t *pool = pool_at(proxy_port(proxy), "pool_max_size=2");
  REQUIRE(pool);
  struct sigaction action;
  PGconn *conn = get_working(pool, slow(5000));
  CHECK(sql_run(conn, "begin"));
  proxy_existing(proxy, PROXY_RESET);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(sigaction(SIGPIPE, NULL, &action), ==, 0);
  CHECK(action.sa_handler == SIG_DFL);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}
