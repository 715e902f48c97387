/* Codes and messages. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <string.h>

TEST(every_code_has_a_text_of_its_own) {
  for (int code = POOL_ECANCELED; code <= POOL_OK; code++) {
    const char *text = pool_strerror(code);
    CHECK(text != NULL && text[0] != 0);
    for (int other = POOL_ECANCELED; other < code; other++)
      CHECK(strcmp(text, pool_strerror(other)) != 0);
    CHECK(pool_strerror(code) == text);
  }
}

TEST(a_code_nobody_knows_has_a_text_too) {
  static const int codes[] = {1, 99, -16, -1000, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    CHECK(pool_strerror(codes[i]) != NULL);
}

TEST(the_codes_never_change) {
  static const int codes[] = {POOL_OK,       POOL_EINVAL,  POOL_ENOMEM,    POOL_ETIMEOUT,  POOL_ECONNECT, POOL_EFULL,
                              POOL_ECLOSED,  POOL_EPAUSED, POOL_PENDING,   POOL_ENOTLEASED, POOL_EFOREIGN, POOL_EFORKED,
                              POOL_EDEADLOCK, POOL_ESYSTEM, POOL_EINTERNAL, POOL_ECANCELED};
  for (int i = 0; i < (int)(sizeof codes / sizeof *codes); i++)
    CHECK_INT(codes[i], ==, -i);
}

TEST(a_thread_starts_without_an_error) {
  CHECK_INT(pool_errcode(), ==, POOL_OK);
  CHECK(pool_errmsg() != NULL);
}

TEST(success_does_not_clear_the_error) {
  CHECK_INT(pool_close(NULL), ==, POOL_EINVAL);
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(pool_pause(pool), ==, 0);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_INT(pool_close(pool), ==, 0);
}

static void *fail_otherwise(void *argument) {
  CHECK_INT(pool_errcode(), ==, POOL_OK);
  CHECK(pool_get(argument, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
  return NULL;
}

TEST(each_thread_has_errors_of_its_own) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_close(NULL), ==, POOL_EINVAL);
  pthread_t thread;
  pthread_create(&thread, NULL, fail_otherwise, pool);
  pthread_join(thread, NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
}

TEST(the_version_is_that_of_the_header) {
  CHECK(strcmp(pool_version(), POOL_VERSION) == 0);
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", POOL_VERSION_MAJOR, POOL_VERSION_MINOR, POOL_VERSION_PATCH);
  CHECK(strcmp(version, POOL_VERSION) == 0);
}

TEST(a_timeout_says_what_the_pool_is_doing) {
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(held);
  CHECK(pool_get(pool, 50) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_HAS(pool_errmsg(), "in use");
  CHECK_HAS(pool_errmsg(), "waiting");
  CHECK_HAS(pool_errmsg(), "connecting");
  CHECK_HAS(pool_errmsg(), options.name);
  CHECK_HAS(pool_errmsg(), "1");
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(the_code_tells_all_in_use_from_server_down) {
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_REFUSE);
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", proxy_port(proxy));
  pool_t *down = pool_create(conninfo, NULL), *busy = open_pool(0, 1);
  REQUIRE(down && busy);
  PGconn *held = get_working(busy, POOL_TIMEOUT_DEFAULT);
  CHECK(pool_get(down, 300) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "refused");
  CHECK(pool_get(busy, 100) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(pool_put(busy, held), ==, 0);
  CHECK_INT(pool_close(down), ==, 0);
  CHECK_INT(pool_close(busy), ==, 0);
  proxy_stop(proxy);
}

TEST(messages_end_without_a_newline) {
  CHECK(pool_create("host=127.0.0.1 port=1 no_such_keyword=1", NULL) == NULL);
  const char *text = pool_errmsg();
  CHECK(text[0] != 0 && text[strlen(text) - 1] != '\n');
  pool_t *pool = pool_create("host=127.0.0.1 port=1", NULL);
  REQUIRE(pool);
  CHECK(pool_get(pool, 300) == NULL);
  text = pool_errmsg();
  CHECK(text[0] != 0 && text[strlen(text) - 1] != '\n');
  CHECK_INT(pool_close(pool), ==, 0);
}

static void check_remembered(int returned, int expected) {
  CHECK_INT(returned, ==, expected);
  CHECK_INT(pool_errcode(), ==, expected);
}

TEST(the_code_returned_is_the_code_remembered) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  int foreign;
  pool_ticket_t ticket;
  check_remembered(pool_put(pool, &foreign), POOL_EFOREIGN);
  check_remembered(pool_resize(pool, 5, 1), POOL_EINVAL);
  check_remembered(pool_put(pool, &foreign), POOL_EFOREIGN);
  check_remembered(pool_get_start(pool, -7, &ticket), POOL_EINVAL);
  check_remembered(pool_put(pool, &foreign), POOL_EFOREIGN);
  check_remembered(pool_get_cancel(pool, 12345), POOL_EINVAL);
  CHECK_INT(pool_close(pool), ==, 0);
  check_remembered(pool_put(pool, &foreign), POOL_ECLOSED);
}
