/* pool_options_t: defaults, limits, sizes from other releases. */
#include "pools.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

TEST(the_initializer_and_the_function_agree) {
  pool_options_t by_macro = POOL_OPTIONS_INIT, by_function;
  memset(&by_function, 0xaa, sizeof by_function);
  CHECK_INT(pool_options_init(&by_function, sizeof by_function), ==, 0);
  CHECK(memcmp(&by_macro, &by_function, sizeof by_macro) == 0);
}

TEST(the_defaults_are_those_of_the_header) {
  pool_options_t options;
  CHECK_INT(pool_options_init(&options, sizeof options), ==, 0);
  CHECK_INT(options.size, ==, sizeof options);
  CHECK_INT(options.min_size, ==, 0);
  CHECK_INT(options.max_size, ==, 10);
  CHECK_INT(options.max_waiting, ==, 0);
  CHECK_INT(options.acquire_timeout_ms, ==, 30000);
  CHECK_INT(options.connect_timeout_ms, ==, 10000);
  CHECK_INT(options.connect_concurrency, ==, 0);
  CHECK_INT(options.max_lifetime_ms, ==, 1800000);
  CHECK_INT(options.lifetime_jitter_percent, ==, 20);
  CHECK_INT(options.idle_timeout_ms, ==, 600000);
  CHECK_INT(options.check, ==, POOL_CHECK_WATCH);
  CHECK_INT(options.check_after_idle_ms, ==, 500);
  CHECK_INT(options.check_timeout_ms, ==, 5000);
  CHECK_INT(options.reset, ==, POOL_RESET_ROLLBACK);
  CHECK_INT(options.queue_mode, ==, POOL_LIFO);
  CHECK_INT(options.leak_threshold_ms, ==, 0);
  CHECK_INT(options.exact_times, ==, 0);
}

TEST(init_refuses_what_is_no_struct) {
  pool_options_t options;
  CHECK_INT(pool_options_init(NULL, sizeof options), ==, POOL_EINVAL);
  CHECK_INT(pool_options_init(&options, 0), ==, POOL_EINVAL);
  CHECK_INT(pool_options_init(&options, sizeof options - 1), ==, POOL_EINVAL);
}

struct newer {
  pool_options_t options;
  char tail[64];
};

TEST(a_newer_struct_is_filled_with_zeros) {
  struct newer newer;
  memset(&newer, 0xaa, sizeof newer);
  CHECK_INT(pool_options_init(&newer.options, sizeof newer), ==, 0);
  CHECK_INT(newer.options.size, ==, sizeof newer);
  for (size_t i = 0; i < sizeof newer.tail; i++)
    CHECK_INT(newer.tail[i], ==, 0);
}

TEST(a_newer_struct_is_accepted_while_its_tail_is_zero) {
  struct newer newer;
  CHECK_INT(pool_options_init(&newer.options, sizeof newer), ==, 0);
  newer.options.max_size = 3;
  pool_t *pool = pool_create("", &newer.options);
  REQUIRE(pool);
  CHECK_INT(STAT(pool, max_size), ==, 3);
  CHECK_INT(pool_close(pool), ==, 0);
  newer.tail[63] = 1;
  CHECK(pool_create("", &newer.options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
}

TEST(a_struct_without_its_size_is_refused) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.size = 0;
  CHECK(pool_create("", &options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "size");
  options.size = sizeof options - 1;
  CHECK(pool_create("", &options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
}

/* A size within a pointer gave the library half of one, which it followed. */
TEST(a_struct_that_ends_within_a_member_is_refused) {
  char name[] = "abi-cut";
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  for (size_t size = 0; size < sizeof options; size++) {
    size_t member = size < offsetof(pool_options_t, min_size) ? sizeof(void *) : sizeof(int);
    if (size > 0 && size % member == 0)
      continue; /* it ends between two members */
    options.size = size;
    CHECK(pool_create("", &options) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    CHECK_HAS(pool_errmsg(), "size");
  }
}

TEST(a_struct_that_ends_between_two_members_leaves_the_rest_at_their_defaults) {
  char name[] = "abi-short";
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  options.max_size = 3;
  options.size = offsetof(pool_options_t, reset_query);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(STAT(pool, max_size), ==, 10);
  close_whole(pool);
  options.size = offsetof(pool_options_t, max_waiting);
  pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(STAT(pool, max_size), ==, 3);
  close_whole(pool);
}

#define FIELD(member) offsetof(pool_options_t, member), #member

static const struct wrong {
  size_t offset;
  const char *name;
  int value;
} wrong_values[] = {
    {FIELD(min_size), -1},
    {FIELD(min_size), 11},
    {FIELD(min_size), INT_MAX},
    {FIELD(max_size), 0},
    {FIELD(max_size), -1},
    {FIELD(max_size), INT_MIN},
    {FIELD(max_size), POOL_MAX_SIZE_LIMIT + 1},
    {FIELD(max_size), INT_MAX},
    {FIELD(max_waiting), -1},
    {FIELD(acquire_timeout_ms), -3},
    {FIELD(acquire_timeout_ms), INT_MIN},
    {FIELD(connect_timeout_ms), 0},
    {FIELD(connect_timeout_ms), -1},
    {FIELD(connect_concurrency), -1},
    {FIELD(max_lifetime_ms), -1},
    {FIELD(lifetime_jitter_percent), -1},
    {FIELD(lifetime_jitter_percent), 101},
    {FIELD(idle_timeout_ms), -1},
    {FIELD(check), -1},
    {FIELD(check), POOL_CHECK_PING + 1},
    {FIELD(check_after_idle_ms), -1},
    {FIELD(check_timeout_ms), 0},
    {FIELD(check_timeout_ms), -1},
    {FIELD(reset), -1},
    {FIELD(reset), POOL_RESET_QUERY + 1},
    {FIELD(queue_mode), -1},
    {FIELD(queue_mode), POOL_FIFO + 1},
    {FIELD(leak_threshold_ms), -1},
};

/* The name without its unit: the message may call it so, as in a conninfo. */
static void check_named(const char *field) {
  char name[64];
  snprintf(name, sizeof name, "%s", field);
  char *unit = strstr(name, "_ms");
  if (unit)
    *unit = 0;
  CHECK_HAS(pool_errmsg(), name);
}

TEST(a_value_out_of_bounds_is_named) {
  for (size_t i = 0; i < sizeof wrong_values / sizeof *wrong_values; i++) {
    const struct wrong *wrong = &wrong_values[i];
    pool_options_t options = POOL_OPTIONS_INIT;
    memcpy((char *)&options + wrong->offset, &wrong->value, sizeof wrong->value);
    pool_t *pool = pool_create("", &options);
    if (!CHECK(pool == NULL)) {
      fprintf(stderr, "    accepted: %s = %d\n", wrong->name, wrong->value);
      pool_close(pool);
      continue;
    }
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
    check_named(wrong->name);
  }
}

TEST(values_at_the_bounds_are_accepted) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.max_size = POOL_MAX_SIZE_LIMIT;
  options.max_waiting = INT_MAX;
  options.acquire_timeout_ms = POOL_TIMEOUT_INFINITE;
  options.connect_timeout_ms = INT_MAX;
  options.connect_concurrency = POOL_MAX_SIZE_LIMIT;
  options.max_lifetime_ms = INT_MAX;
  options.lifetime_jitter_percent = 100;
  options.idle_timeout_ms = INT_MAX;
  options.check_after_idle_ms = INT_MAX;
  options.check_timeout_ms = INT_MAX;
  options.leak_threshold_ms = INT_MAX;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  options.max_size = 1;
  options.acquire_timeout_ms = 0;
  options.connect_timeout_ms = 1;
  options.max_lifetime_ms = 1;
  options.lifetime_jitter_percent = 0;
  options.idle_timeout_ms = 1;
  options.check_timeout_ms = 1;
  pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST(a_reset_by_query_needs_its_query) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.reset = POOL_RESET_QUERY;
  CHECK(pool_create("", &options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "reset_query");
}

TEST(strings_are_copied) {
  char name[32], query[64];
  snprintf(name, sizeof name, "abi-copied");
  snprintf(query, sizeof query, "set application_name to 'abi-after'");
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  options.max_size = 1;
  options.reset = POOL_RESET_QUERY;
  options.reset_query = query;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  memset(name, 'x', sizeof name - 1);
  memset(query, 'x', sizeof query - 1);
  memset(&options, 0xff, sizeof options);
  PGconn *conn = get_working(pool, slow(5000));
  char text[64];
  CHECK(sql_text(conn, text, sizeof text, "show application_name"));
  CHECK(strcmp(text, "abi-copied") == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  conn = get_working(pool, slow(5000));
  CHECK(sql_text(conn, text, sizeof text, "show application_name"));
  CHECK(strcmp(text, "abi-after") == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_name_is_as_long_as_an_identifier) {
  char name[80];
  memset(name, 'n', sizeof name);
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  name[POOL_NAME_LIMIT + 1] = 0;
  CHECK(pool_create("", &options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "name");
  name[POOL_NAME_LIMIT] = 0;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  char text[80];
  CHECK(sql_text(conn, text, sizeof text, "show application_name"));
  CHECK(strcmp(text, name) == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_pool_without_a_name_gets_one) {
  pool_t *pool = pool_create("", NULL);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  char text[80];
  CHECK(sql_text(conn, text, sizeof text, "show application_name"));
  CHECK(strncmp(text, "pool-", 5) == 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(resize_has_the_same_bounds_and_changes_nothing_when_refused) {
  static const int wrong[][2] = {{-1, 5}, {0, 0}, {0, -1}, {6, 5}, {0, POOL_MAX_SIZE_LIMIT + 1}, {INT_MAX, INT_MAX}, {0, INT_MIN}};
  pool_t *pool = open_pool(1, 4);
  REQUIRE(pool);
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    CHECK_INT(pool_resize(pool, wrong[i][0], wrong[i][1]), ==, POOL_EINVAL);
    CHECK_INT(STAT(pool, min_size), ==, 1);
    CHECK_INT(STAT(pool, max_size), ==, 4);
  }
  CHECK_INT(pool_resize(pool, 2, 3), ==, 0);
  CHECK_INT(STAT(pool, min_size), ==, 2);
  CHECK_INT(STAT(pool, max_size), ==, 3);
  close_whole(pool);
}

TEST(an_acquire_timeout_of_zero_is_a_try) {
  pool_options_t options = options_sized(0, 1);
  options.acquire_timeout_ms = 0;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  int64_t start = now_ms();
  CHECK(pool_get(pool, POOL_TIMEOUT_DEFAULT) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(now_ms() - start, <, slow(500));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}
