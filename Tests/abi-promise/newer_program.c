/* Built with a header that is newer than the library: longer structs, whose new members the library does not know. */
#include "checked.h"

#include <dbpool.h>

#include <string.h>

static void an_option_at_its_default_is_accepted(void) {
  pool_options_t options;
  memset(&options, 0xAA, sizeof options);
  CHECK(pool_options_init(&options, sizeof options) == POOL_OK);
  CHECK(options.size == sizeof options && options.newer_option == 0 && options.newer_text == NULL);
  options.max_size = 7;
  pool_t *pool = pool_create("", &options);
  pool_t *hosted = pool_create_hosted(&options);
  CHECK(pool != NULL && pool_close(pool) == POOL_OK);
  CHECK(hosted != NULL && pool_close(hosted) == POOL_OK);
  pool_options_t initialized = POOL_OPTIONS_INIT;
  pool = pool_create("", &initialized);
  CHECK(pool != NULL && pool_close(pool) == POOL_OK);
}

/* Where it is not at its default the program counts on something that the library cannot do. */
static void an_option_that_is_set_is_refused_in_words(void) {
  static const char unknown[] = "sets an option that this version of the library does not have";
  pool_options_t options = POOL_OPTIONS_INIT;
  options.newer_option = 1;
  CHECK(pool_create("", &options) == NULL && pool_errcode() == POOL_EINVAL && strstr(pool_errmsg(), unknown) != NULL);
  CHECK(pool_create_hosted(&options) == NULL && pool_errcode() == POOL_EINVAL);
  options.newer_option = 0;
  options.newer_text = "x";
  CHECK(pool_create("", &options) == NULL && pool_errcode() == POOL_EINVAL && strstr(pool_errmsg(), unknown) != NULL);
}

static void a_figure_that_is_not_counted_is_zero(void) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.max_size = 7;
  pool_t *pool = pool_create("", &options);
  pool_stats_t stats;
  memset(&stats, 0xAA, sizeof stats);
  stats.size = sizeof stats;
  CHECK(pool != NULL && pool_stats(pool, &stats) == POOL_OK);
  CHECK(stats.max_size == 7 && stats.connect_us == 0 && stats.newer_figure == 0);
  CHECK(pool_close(pool) == POOL_OK);
}

int main(void) {
  an_option_at_its_default_is_accepted();
  an_option_that_is_set_is_refused_in_words();
  a_figure_that_is_not_counted_is_zero();
  return failures != 0;
}
