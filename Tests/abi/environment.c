/* The environment counts when the pool is made, and never again. */
#include "pools.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_setting(PGconn *conn, const char *name, const char *wanted) {
  char value[128];
  CHECK(sql_text(conn, value, sizeof value, "select current_setting('%s')", name));
  CHECK_HAS(value, wanted);
}

/* Everything that a later variable could change. */
static void spoil_environment(void) {
  static const char *const spoiled[][2] = {
      {"PGHOST", "127.0.0.2"},       {"PGHOSTADDR", "127.0.0.3"},
      {"PGPORT", "1"},               {"PGUSER", "spoiled"},
      {"PGDATABASE", "spoiled"},     {"PGPASSWORD", "spoiled"},
      {"PGPASSFILE", "/spoiled"},    {"PGOPTIONS", "-c search_path=spoiled"},
      {"PGAPPNAME", "spoiled"},      {"PGSSLMODE", "verify-full"},
      {"PGSSLROOTCERT", "/spoiled"}, {"PGSSLCERT", "/spoiled"},
      {"PGSSLCRL", "/spoiled"},      {"PGSSLMAXPROTOCOLVERSION", "TLSv1"},
      {"PGREQUIREPEER", "spoiled"},  {"PGCLIENTENCODING", "LATIN1"},
      {"PGCHANNELBINDING", "require"}, {"PGTARGETSESSIONATTRS", "standby"},
      {"PGCONNECT_TIMEOUT", "nonsense"}, {"HOME", "/spoiled"},
  };
  for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; i++)
    setenv(spoiled[i][0], spoiled[i][1], 1);
}

static void check_as_made(pool_t *pool, const char *name, const char *path) {
  PGconn *conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  check_setting(conn, "search_path", path);
  check_setting(conn, "application_name", name);
  check_setting(conn, "client_encoding", "UTF8");
  CHECK_INT(pool_discard(pool, conn), ==, 0);
}

TEST(variables_that_change_after_the_pool_was_made_do_not_count) {
  CHECK(observer() != NULL);
  setenv("PGCLIENTENCODING", "UTF8", 1);
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  spoil_environment();
  for (int i = 0; i < 2; i++)
    check_as_made(pool, options.name, "public");
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  close_whole(pool);
}

/* But for those of the harness. */
static void remove_variables(void) {
  static const char *const names[] = {"PGHOST",    "PGPORT",           "PGUSER",    "PGPASSWORD", "PGDATABASE",
                                      "PGOPTIONS", "PGCLIENTENCODING", "PGAPPNAME", "HOME"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    unsetenv(names[i]);
}

TEST(variables_that_are_gone_after_the_pool_was_made_still_count) {
  setenv("PGCLIENTENCODING", "UTF8", 1);
  setenv("PGOPTIONS", "-c search_path=pg_catalog", 1);
  setenv("PGAPPNAME", "from-the-environment", 1);
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  remove_variables();
  check_as_made(pool, "from-the-environment", "pg_catalog");
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  close_whole(pool);
}

/* The password file of the folder that was home then. */
TEST(a_home_that_moves_does_not_take_the_password_along) {
  create_role("abi_home", "at-home", "");
  char home[] = "/tmp/abi-home-XXXXXX", path[64], conninfo[128];
  REQUIRE(mkdtemp(home) != NULL);
  snprintf(path, sizeof path, "%s/.pgpass", home);
  FILE *file = fopen(path, "w");
  REQUIRE(file != NULL);
  CHECK_INT(chmod(path, 0600), ==, 0);
  fprintf(file, "*:*:*:abi_home:at-home\n");
  fclose(file);
  unsetenv("PGPASSWORD");
  setenv("HOME", home, 1);
  snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=abi_home", server_host(), server_port());
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  setenv("HOME", "/spoiled", 1);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(unlink(path), ==, 0);
  CHECK_INT(rmdir(home), ==, 0);
  WAIT_FOR(3000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_home'") == 0);
  drop_role("abi_home");
}

/* A service file is read with the environment, once. */
TEST(a_service_file_that_changes_does_not_count) {
  char path[] = "/tmp/abi-service-XXXXXX", line[256];
  int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  int length = snprintf(line, sizeof line, "[mine]\nhost=%s\nport=%d\noptions=-c search_path=pg_catalog\n",
                        server_host(), server_port());
  CHECK_INT(write(fd, line, (size_t)length), ==, length);
  close(fd);
  setenv("PGSERVICEFILE", path, 1);
  setenv("PGCLIENTENCODING", "UTF8", 1);
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create("service=mine", &options);
  REQUIRE(pool);
  CHECK_INT(unlink(path), ==, 0);
  check_as_made(pool, options.name, "pg_catalog");
  close_whole(pool);
}
