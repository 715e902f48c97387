/* The locale is the program's: with a comma for the decimal point, and other words, the pool's durations, figures and own
 * texts are the same. */
#include "pools.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/abi-locale-XXXXXX";

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command) != 0)
    fprintf(stderr, "    %s is left\n", folder);
}

/* No such locale need be installed: one is made. False without what that takes. */
static bool with_comma_locale(void) {
  char command[256], number[8];
  if (access("/usr/share/i18n/locales/de_DE", R_OK) != 0 || system("command -v localedef > /dev/null") != 0) {
    printf("    NOT TRIED: localedef and the sources of locales are not installed (Debian: locales)\n");
    return false;
  }
  if (!CHECK(mkdtemp(folder) != NULL) || !CHECK_INT(atexit(remove_folder), ==, 0))
    return false;
  snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>&1", folder);
  CHECK_INT(system(command), ==, 0);
  CHECK_INT(setenv("LOCPATH", folder, 1), ==, 0);
  CHECK(setlocale(LC_ALL, "de_DE.UTF-8") != NULL);
  snprintf(number, sizeof number, "%.1f", 1.5);
  return CHECK_HAS(number, "1,5");
}

struct spoken {
  char text[8192];
  int64_t waited_ms;
};

static void say(struct spoken *spoken, const char *text) {
  size_t used = strlen(spoken->text);
  snprintf(spoken->text + used, sizeof spoken->text - used, "%s\n", text);
}

static struct spoken speak(void) {
  static const char *const refused[] = {"pool_max_size=x", "pool_max_size=1.5", "pool_max_size=1,5", "pool_max_lifetime=1.5s",
                                        "pool_max_lifetime=1,5s", "pool_max_lifetime=2weeks", "pool_check=Ping",
                                        "pool_no_such=1"};
  struct spoken spoken = {"", 0};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    CHECK(pool_create(refused[i], NULL) == NULL);
    say(&spoken, pool_errmsg());
  }
  for (int code = 0; code > -32; code--)
    say(&spoken, pool_strerror(code));
  pool_t *pool = pool_create("pool_name=spoken pool_max_size=1 pool_acquire_timeout=300ms pool_max_lifetime=2h", NULL);
  PGconn *conn = pool ? get_working(pool, slow(5000)) : NULL;
  if (!conn)
    return spoken;
  int64_t start = now_ms();
  CHECK(pool_get(pool, POOL_TIMEOUT_DEFAULT) == NULL);
  spoken.waited_ms = now_ms() - start;
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_HAS(pool_errmsg(), "no connection came free within ");
  CHECK(pool_get(pool, 0) == NULL);
  say(&spoken, pool_errmsg());
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_put(pool, NULL), ==, POOL_EINVAL);
  say(&spoken, pool_errmsg());
  close_whole(pool);
  return spoken;
}

static void check_same(const struct spoken *plain) {
  struct spoken other = speak();
  if (!CHECK(strcmp(other.text, plain->text) == 0))
    fprintf(stderr, "%s    and otherwise:\n%s", plain->text, other.text);
  CHECK_INT(other.waited_ms, >=, 299);
  CHECK_INT(other.waited_ms, <, slow(1000));
}

TEST(a_locale_with_a_decimal_comma_changes_nothing) {
  struct spoken plain = speak();
  if (!with_comma_locale())
    return;
  check_same(&plain);
  /* That of a thread, too. */
  locale_t comma = duplocale(LC_GLOBAL_LOCALE);
  CHECK(comma != (locale_t)0 && setlocale(LC_ALL, "C") != NULL);
  uselocale(comma);
  check_same(&plain);
  uselocale(LC_GLOBAL_LOCALE);
  freelocale(comma);
}

/* What libpq says is in the program's language then; what kind of error it is does not hang on the words. */
TEST(a_refused_login_is_known_in_any_language) {
  if (!with_comma_locale())
    return;
  pool_t *pool = pool_create("password=wrong pool_min_size=1", NULL);
  REQUIRE(pool);
  int64_t start = now_ms();
  CHECK_INT(pool_wait(pool, slow(10000)), ==, POOL_ECONNECT);
  CHECK_INT(now_ms() - start, <, slow(3000)); /* an error that will not go away ends it early */
  CHECK_INT(pool_close(pool), ==, 0);
}
