/* Options inside the conninfo, and conninfos of every kind. */
#include "pools.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_refused(const char *conninfo, const char *named) {
  pool_t *pool = pool_create(conninfo, NULL);
  if (!CHECK(pool == NULL)) {
    fprintf(stderr, "    accepted: %s\n", conninfo);
    pool_close(pool);
    return;
  }
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), named);
}

static void check_accepted(const char *conninfo) {
  pool_t *pool = pool_create(conninfo, NULL);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    refused: %s: %s\n", conninfo, pool_errmsg());
  else
    CHECK_INT(pool_close(pool), ==, 0);
}

TEST(options_stand_in_keywords) {
  pool_t *pool = pool_create("pool_min_size=2 pool_max_size = '7' application_name=abi-keywords", NULL);
  REQUIRE(pool);
  CHECK_INT(STAT(pool, min_size), ==, 2);
  CHECK_INT(STAT(pool, max_size), ==, 7);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(sessions("abi-keywords"), ==, 2);
  close_whole(pool);
}

TEST(options_stand_in_a_uri) {
  const char *uris[] = {
      "postgresql://?pool_max_size=6&application_name=abi-uri&pool_min_size=1",
      "postgres://?application_name=abi-uri&pool_min_size=%31&pool_max_size=6",
      "postgresql:///?pool_min_size=1&pool_max_size=6&application_name=abi-uri",
  };
  for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
    pool_t *pool = pool_create(uris[i], NULL);
    if (!CHECK(pool != NULL)) {
      fprintf(stderr, "    %s: %s\n", uris[i], pool_errmsg());
      continue;
    }
    CHECK_INT(STAT(pool, min_size), ==, 1);
    CHECK_INT(STAT(pool, max_size), ==, 6);
    PGconn *conn = get_working(pool, slow(5000));
    char text[64];
    CHECK(conn && sql_text(conn, text, sizeof text, "show application_name") && strcmp(text, "abi-uri") == 0);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    close_whole(pool);
  }
}

TEST(the_conninfo_wins_over_the_struct) {
  pool_options_t options = options_sized(1, 5);
  pool_t *pool = pool_create("pool_max_size=3 pool_name=abi-wins", &options);
  REQUIRE(pool);
  CHECK_INT(STAT(pool, min_size), ==, 1);
  CHECK_INT(STAT(pool, max_size), ==, 3);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(sessions("abi-wins"), ==, 1);
  close_whole(pool);
}

TEST(limits_are_checked_across_conninfo_and_struct) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.min_size = 5;
  CHECK(pool_create("pool_max_size=3", &options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "min_size is 5, more than pool_max_size, which is 3");
}

TEST(every_option_has_a_key) {
  check_accepted("pool_name=abc pool_min_size=0 pool_max_size=5 pool_max_waiting=100 pool_acquire_timeout=1s "
                 "pool_connect_timeout=2s pool_connect_concurrency=3 pool_max_lifetime=30m pool_lifetime_jitter_percent=10 "
                 "pool_idle_timeout=10min pool_check=ping pool_check_after_idle=500ms pool_check_timeout=5s "
                 "pool_reset=query pool_reset_query='discard all' pool_queue_mode=fifo pool_leak_threshold=1h "
                 "pool_exact_times=1");
}

TEST(named_values_are_lower_case_words) {
  static const char *const fine[] = {"check=none",      "check=watch",     "check=socket",      "check=ping",
                                     "reset=none",      "reset=rollback",  "reset=discard_all", "queue_mode=lifo",
                                     "queue_mode=fifo", "reset=query pool_reset_query='select 1'"};
  static const char *const wrong[] = {"check=PING", "check=2x", "check=", "reset=all", "queue_mode=random", "check='ping '"};
  char conninfo[128];
  for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
    snprintf(conninfo, sizeof conninfo, "pool_%s", fine[i]);
    check_accepted(conninfo);
  }
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    char key[64];
    snprintf(conninfo, sizeof conninfo, "pool_%s", wrong[i]);
    snprintf(key, sizeof key, "%.*s", (int)strcspn(conninfo, "="), conninfo);
    check_refused(conninfo, key);
  }
}

/* How long a get waits on an exhausted pool whose acquire timeout is `duration`. */
static int64_t waited_with(void *duration) {
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "pool_max_size=1 pool_acquire_timeout=%s", (const char *)duration);
  pool_t *pool = pool_create(conninfo, NULL);
  PGconn *held = pool ? pool_get(pool, slow(5000)) : NULL;
  if (!held)
    return -1;
  int64_t start = now_ms();
  void *conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  int64_t took = now_ms() - start;
  CHECK(conn == NULL);
  CHECK_INT(took, >=, 199);
  CHECK_INT(pool_put(pool, held), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  return took;
}

TEST(durations_have_units_and_are_milliseconds_without) {
  static char *const durations[] = {"200", "200ms", "200000us", "'200 ms'"};
  for (size_t i = 0; i < 3; i++)
    CHECK_WITHIN(250, 5, waited_with, durations[i]);
  int64_t start = now_ms();
  CHECK(waited_with("1s") >= 1000);
  CHECK_INT(now_ms() - start, <, slow(2500));
}

TEST(long_units_are_understood) {
  static const char *const fine[] = {"1min", "30m", "2h", "7d", "0"};
  char conninfo[128];
  for (size_t i = 0; i < 5; i++) {
    snprintf(conninfo, sizeof conninfo, "pool_max_lifetime=%s", fine[i]);
    check_accepted(conninfo);
  }
  check_accepted("pool_acquire_timeout=-1");
}

TEST(a_wrong_duration_is_named) {
  static const char *const wrong[] = {"5parsecs", "abc", "''", "-5s", "10S", "1 2", "99999999999999999999", "9999999999d", "0x10", "ms"};
  char conninfo[128];
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    snprintf(conninfo, sizeof conninfo, "pool_max_lifetime='%s'", strcmp(wrong[i], "''") == 0 ? "" : wrong[i]);
    check_refused(conninfo, "pool_max_lifetime");
  }
}

TEST(a_wrong_number_is_named) {
  static const char *const wrong[] = {"0", "-1", "65536", "ten", "1.5", "10s", "99999999999999999999", "''", "4294967297"};
  char conninfo[128];
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    snprintf(conninfo, sizeof conninfo, "pool_max_size=%s", wrong[i]);
    check_refused(conninfo, "pool_max_size is");
  }
}

TEST(an_unknown_option_is_named) {
  check_refused("pool_maxsize=5", "pool_maxsize");
  check_refused("postgresql://?pool_max_sizes=5", "pool_max_sizes");
  check_refused("pool_=5", "pool_");
  check_refused("host=localhost pool_context=5", "pool_context");
  check_refused("pool_max_lifetime_ms=5", "pool_max_lifetime_ms");
}

TEST(an_unknown_keyword_of_libpq_is_named) {
  check_refused("no_such_keyword=1", "no_such_keyword");
  check_refused("postgresql://localhost/?no_such_keyword=1", "no_such_keyword");
}

TEST(broken_syntax_is_refused) {
  static const char *const broken[] = {"host='open", "host", "=5", "postgresql://[::1", "postgresql://a@b:c@d:e/%zz", "host=\\"};
  for (size_t i = 0; i < 5; i++)
    check_refused(broken[i], "");
}

TEST(an_at_sign_of_a_password_must_be_escaped) {
  check_refused("postgresql://u:p@ss@localhost/db", "%40");
  check_refused("postgresql://u:p@ss@:5432/db", "%40");
  check_refused("postgresql://u:p@first,ss@second/db", "%40");
  CHECK_LACKS(pool_errmsg(), "ss@");
  check_accepted("postgresql://u:p%40ss@localhost/db");
  check_accepted("postgresql://u:p@,localhost/db@home?application_name=a@b&user=c@d");
  check_accepted("postgresql://u:p@%2Ftmp%2Fa%40b,%40abstract/db");
  check_accepted("host=a@b hostaddr=127.0.0.1");
}

TEST(quotes_and_escapes_reach_the_server_unchanged) {
  static const char *const conninfos[] = {"application_name='it\\'s a \\\\ name' pool_max_size=1",
                                          "postgresql://?application_name=it's%20a%20%5C%20name&pool_max_size=1"};
  for (size_t i = 0; i < 2; i++) {
    pool_t *pool = pool_create(conninfos[i], NULL);
    REQUIRE(pool);
    PGconn *conn = get_working(pool, slow(5000));
    char text[64] = "";
    CHECK(conn && sql_text(conn, text, sizeof text, "show application_name"));
    CHECK(strcmp(text, "it's a \\ name") == 0);
    CHECK_INT(pool_put(pool, conn), ==, 0);
    close_whole(pool);
  }
}

TEST(bytes_that_are_no_text_do_no_harm) {
  pool_t *pool = pool_create("dbname=\xff\xfe\x80 pool_name=\xc3\x28", NULL);
  if (pool) {
    CHECK(pool_get(pool, slow(1000)) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
    CHECK_INT(pool_close(pool), ==, 0);
  } else {
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  }
}

TEST(a_conninfo_has_a_size_limit) {
  size_t size = 1 << 20;
  char *text = malloc(size + 1);
  REQUIRE(text != NULL);
  memset(text, ' ', size);
  memcpy(text, "pool_max_size=1", 15);
  text[size] = 0;
  CHECK(pool_create(text, NULL) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  memset(text, 'x', size);
  CHECK(pool_create(text, NULL) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  memset(text, ' ', size);
  memcpy(text, "pool_max_size=1", 15);
  text[POOL_CONNINFO_LIMIT - 1] = 0;
  pool_t *pool = pool_create(text, NULL);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  free(text);
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  if (CHECK(file != NULL)) {
    fputs(text, file);
    fclose(file);
  }
}

TEST(a_service_file_is_read_at_create) {
  char path[] = "/tmp/abi-service-XXXXXX", text[256];
  int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  close(fd);
  snprintf(text, sizeof text, "[abi]\nhost=%s\nport=%d\napplication_name=abi-service\n", server_host(), server_port());
  write_file(path, text);
  setenv("PGSERVICEFILE", path, 1);
  pool_t *pool = pool_create("service=abi pool_max_size=2", NULL);
  check_refused("service=abi_unknown", "abi_unknown");
  unlink(path);
  unsetenv("PGSERVICEFILE");
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  char name[64] = "";
  CHECK(conn && sql_text(conn, name, sizeof name, "show application_name") && strcmp(name, "abi-service") == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(the_environment_is_read_at_create) {
  setenv("PGAPPNAME", "abi-environment", 1);
  pool_t *pool = pool_create("", NULL);
  setenv("PGAPPNAME", "abi-later", 1);
  char host[128];
  snprintf(host, sizeof host, "%s", getenv("PGHOST") ? getenv("PGHOST") : "");
  setenv("PGHOST", "/nonexistent", 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  setenv("PGHOST", host, 1);
  char name[64] = "";
  CHECK(conn && sql_text(conn, name, sizeof name, "show application_name") && strcmp(name, "abi-environment") == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(session_attributes_choose_the_host) {
  pool_t *pool = pool_create("target_session_attrs=read-write pool_max_size=1", NULL);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  pool = pool_create("target_session_attrs=standby pool_max_size=1", NULL);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_INT(pool_close(pool), ==, 0);
}
