/* A password appears in no message, log line or statistic. */
#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CANARY "c4n4ryPassw0rd"

static char log_lines[65536];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(void *context, int level, const char *message) {
  (void)context;
  (void)level;
  pthread_mutex_lock(&log_lock);
  size_t used = strlen(log_lines);
  snprintf(log_lines + used, sizeof log_lines - used, "%s\n", message);
  pthread_mutex_unlock(&log_lock);
}

static void check_no_canary(pool_t *pool) {
  CHECK_LACKS(pool_errmsg(), CANARY);
  pthread_mutex_lock(&log_lock);
  CHECK_LACKS(log_lines, CANARY);
  pthread_mutex_unlock(&log_lock);
  if (pool) {
    pool_stats_t stats = {.size = sizeof stats};
    CHECK_INT(pool_stats(pool, &stats), ==, 0);
    CHECK(memmem(&stats, sizeof stats, CANARY, strlen(CANARY)) == NULL);
  }
}

TEST(conninfos_that_are_refused_keep_their_password) {
  static const char *const refused[] = {
      "password=" CANARY " no_such_keyword=1",
      "password='" CANARY,
      "no_such_keyword=1 password=" CANARY,
      "password=" CANARY " pool_max_size=x",
      "password=" CANARY " pool_unknown=1",
      "password " CANARY,
      "postgresql://user:" CANARY "@host:port:port/db",
      "postgresql://user:" CANARY "@[::1/db",
      "postgresql://user:" CANARY "@host/db?no_such_keyword=1",
      "postgresql://user:" CANARY "@host/db?pool_max_size=0",
      "postgresql://user:" CANARY "%zz@host/db",
      "postgresql://user:%" CANARY "@host/db",
      "postgresql://user:x@" CANARY "@host/db",
      "postgresql://host/db?password=" CANARY "&=1",
      "postgresql://host/db?password=" CANARY "%zz",
      "postgresql://host/db?password=" CANARY "=x",
      "postgresql://host/db?user=a&password=" CANARY "&pool_check=x",
      "postgres://" CANARY ":" CANARY "@",
      "password = \t'" CANARY "' host",
      "sslpassword=" CANARY " no_such_keyword=1",
      "passwordd=" CANARY,
  };
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    pool_t *pool = pool_create(refused[i], NULL);
    if (pool)
      CHECK_INT(pool_close(pool), ==, 0); /* libpq takes it: nothing to say about it */
    else
      CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    if (!pool && strstr(pool_errmsg(), CANARY))
      fprintf(stderr, "    shown for: %s\n", refused[i]);
    check_no_canary(NULL);
  }
}

static int write_canary(void *context, char *buffer, size_t size) {
  static atomic_int turn;
  (void)context;
  static const char *const lines[] = {"password='" CANARY, "password=" CANARY " no_such_keyword=1",
                                      "postgresql://u:" CANARY "@[::1/", "host=127.0.0.1 port=1 password=" CANARY};
  snprintf(buffer, size, "%s", lines[atomic_fetch_add(&turn, 1) % 4]);
  return 0;
}

TEST(what_a_provider_wrote_is_kept_too) {
  pool_options_t options = options_sized(0, 1);
  options.log = keep_line;
  options.conninfo_provider = write_canary;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  for (int i = 0; i < 10; i++) {
    CHECK(pool_get(pool, slow(200)) == NULL);
    check_no_canary(pool);
  }
  CHECK_INT(pool_close(pool), ==, 0);
  check_no_canary(NULL);
}

static void live_with_canary(const char *password) {
  char conninfo[512];
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_canary password=%s", server_host(), server_port(), password);
  pool_options_t options = options_sized(1, 2);
  options.log = keep_line;
  options.leak_threshold_ms = 50;
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  pool_wait(pool, slow(3000));
  check_no_canary(pool);
  PGconn *conn = pool_get(pool, slow(500));
  check_no_canary(pool);
  if (conn) {
    WAIT_FOR(3000, STAT(pool, leaks) == 1);
    sql_run(observer(), "select pg_terminate_backend(%d, 5000)", PQbackendPID(conn));
    CHECK_INT(pool_put(pool, conn), ==, 0);
    CHECK_INT(pool_put(pool, conn), <, 0);
    check_no_canary(pool);
    conn = pool_get(pool, slow(5000));
    CHECK(conn != NULL);
    CHECK_INT(pool_discard(pool, conn), ==, 0);
  }
  CHECK_INT(pool_close(pool), ==, 0);
  check_no_canary(NULL);
}

TEST(a_pool_that_works_fails_and_leaks_shows_no_password) {
  create_role("abi_canary", CANARY, "");
  live_with_canary(CANARY);
  live_with_canary(CANARY "-but-wrong");
  WAIT_FOR(3000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_canary'") == 0);
  drop_role("abi_canary");
  CHECK(log_lines[0] != 0);
}

TEST(the_environments_password_is_shown_by_no_message) {
  const char *real = getenv("PGPASSWORD");
  char kept[256];
  snprintf(kept, sizeof kept, "%s", real ? real : "");
  setenv("PGPASSWORD", CANARY, 1);
  pool_options_t options = options_sized(1, 1);
  options.log = keep_line;
  pool_t *pool = pool_create("host=127.0.0.1", &options);
  setenv("PGPASSWORD", kept, 1);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(3000)), ==, POOL_ECONNECT);
  check_no_canary(pool);
  CHECK_INT(pool_close(pool), ==, 0);
}

/* Control characters would play tricks with a terminal; and a message is one line. */
static void check_clean(const char *text, const char *part) {
  CHECK_HAS(text, part);
  for (const char *at = text; *at; at++)
    CHECK((unsigned char)*at >= 0x20 && *at != 0x7f);
}

/* What is said before authentication is not to be trusted on a terminal. */
TEST(what_the_server_says_has_no_control_characters) {
  pool_t *pool = pool_create("dbname='a\x1b[31mb\x07\r\nc' pool_min_size=1", NULL);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, POOL_ECONNECT);
  check_clean(pool_errmsg(), "[31mb");
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST(refusals_have_no_control_characters) {
  static const struct {
    const char *conninfo, *part;
  } refused[] = {{"pool_max_size='1\x1b[31mb'", "pool_max_size"},
                 {"pool_check='\x1b[31mb\r\n'", "pool_check"},
                 {"no_such_\x1b[31mb=1", "no_such_"},
                 {"pool_no_such_\x1b[31mb=1", "pool_no_such_"},
                 {"dbname=x no\x07such\x1b[31mb", "such"},
                 {"postgresql://h/d?\x1b[31mb=1", "URI"},
                 {"postgresql://h/d?pool_\x1b[31mb=1", "pool_"},
                 {"postgresql://[::1\x1b[31mb/d", "conninfo"},
                 {"postgresql://h/d?pool_max_size=\x1b[31mb", "pool_max_size"}};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    CHECK(pool_create(refused[i].conninfo, NULL) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    check_clean(pool_errmsg(), refused[i].part);
  }
}
