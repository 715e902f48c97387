/* What libpq would print, or ask for on the terminal, when it dislikes a file of the user's. */
#include "pools.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_SIZE = 128 };

static char folder[] = "/tmp/dbpool-silence.XXXXXX";

static char *in_folder(char *path, const char *name) {
  snprintf(path, PATH_SIZE, "%s/%s", folder, name);
  return path;
}

/* Without a terminal a question would go to standard error, and be answered from standard input. */
HELPER(fail_to_connect) {
  (void)setsid();
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create(helper_argument(), &options);
  REQUIRE(pool);
  int64_t end = now_ms() + slow(5000);
  bool has_cause = false;
  while (!has_cause && now_ms() < end) {
    CHECK(pool_get(pool, 300) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
    has_cause = strstr(pool_errmsg(), getenv("ABI_CAUSE")) != NULL;
  }
  CHECK(has_cause);
  CHECK_HAS(pool_errmsg(), getenv("ABI_CAUSE"));
  close_whole(pool);
}

static void check_silence(const char *conninfo, const char *cause) {
  char output[2048];
  setenv("ABI_CAUSE", cause, 1);
  int status = run_helper("fail_to_connect", conninfo, output, sizeof output, 20000);
  CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(output[0] == 0);
  if (output[0])
    fprintf(stderr, "    printed: %s\n", output);
}

static void check_works(const char *conninfo) {
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  CHECK_INT(pool_put(pool, get_working(pool, slow(5000))), ==, 0);
  close_whole(pool);
}

static void check_passfile(const char *path, const char *cause) {
  char conninfo[PATH_SIZE + 64];
  snprintf(conninfo, sizeof conninfo, "passfile=%s password=''", path);
  check_silence(conninfo, cause);
}

TEST_LIMIT(a_password_file_that_is_not_used_is_named_in_the_error, 60) {
  char path[PATH_SIZE];
  REQUIRE(mkdtemp(folder) != NULL);
  check_passfile(folder, "is not a plain file");
  FILE *file = fopen(in_folder(path, "passfile"), "w");
  REQUIRE(file);
  fprintf(file, "*:*:*:*:%s\n", getenv("PGPASSWORD"));
  CHECK_INT(fclose(file), ==, 0);
  CHECK_INT(chmod(path, 0640), ==, 0);
  check_passfile(path, "may be read by others");
  CHECK_INT(chmod(path, 0600), ==, 0);
  char conninfo[PATH_SIZE + 64];
  snprintf(conninfo, sizeof conninfo, "passfile=%s password=''", path);
  check_works(conninfo);
  CHECK_INT(unlink(path), ==, 0);
  CHECK_INT(rmdir(folder), ==, 0);
}

TEST_LIMIT(nobody_is_asked_for_the_passphrase_of_a_key, 60) {
  char key[PATH_SIZE], certificate[PATH_SIZE], command[4 * PATH_SIZE], conninfo[4 * PATH_SIZE];
  REQUIRE(mkdtemp(folder) != NULL);
  snprintf(command, sizeof command,
           "openssl req -new -x509 -newkey rsa:2048 -passout pass:secret -subj /CN=x -keyout %s -out %s 2> /dev/null",
           in_folder(key, "key"), in_folder(certificate, "certificate"));
  REQUIRE_INT(system(command), ==, 0);
  CHECK_INT(chmod(key, 0600), ==, 0);
  int length = snprintf(conninfo, sizeof conninfo, "sslmode=require sslcert=%s sslkey=%s", certificate, key);
  check_silence(conninfo, "could not load private key file");
  snprintf(conninfo + length, sizeof conninfo - (size_t)length, " sslpassword=secret");
  check_works(conninfo);
  CHECK_INT(unlink(key), ==, 0);
  CHECK_INT(unlink(certificate), ==, 0);
  CHECK_INT(rmdir(folder), ==, 0);
}
