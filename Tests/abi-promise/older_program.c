/* Built with the header of a release, run with the library of today: what such a program relies on. */
#include "checked.h"

#include <dbpool.h>

#include <libpq-fe.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* As numbers too, since a golden header could be changed together with the other. */
_Static_assert(sizeof(pool_options_t) == 136 && sizeof(pool_stats_t) == 280, "");
_Static_assert(offsetof(pool_options_t, size) == 0 && offsetof(pool_stats_t, size) == 0, "");
_Static_assert(offsetof(pool_options_t, min_size) == 64 && offsetof(pool_options_t, reserved) == 132, "");
_Static_assert(offsetof(pool_stats_t, gets) == 88 && offsetof(pool_stats_t, connect_us) == 272, "");
_Static_assert(POOL_ECANCELED == -15 && POOL_CLOSE == 1 && POOL_COLLECT == 2 && POOL_FRESH == 1, "");

static void what_it_lends_works(void) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = "older";
  options.max_size = 2;
  pool_t *pool = pool_create("", &options);
  if (!CHECK(pool != NULL)) return;
  pool_ticket_t ticket = 0;
  PGconn *one = pool_get(pool, 10000);
  CHECK(one != NULL && pool_get_start(pool, 10000, &ticket) == POOL_OK && ticket != 0);
  PGconn *other = pool_get_wait(pool, ticket, POOL_TIMEOUT_DEFAULT);
  CHECK(other != NULL && other != one);
  CHECK(pool_get(pool, 0) == NULL && pool_errcode() == POOL_ETIMEOUT);

  PGresult *result = PQexec(one, "SELECT current_setting('application_name')");
  CHECK(strcmp(PQgetvalue(result, 0, 0), "older") == 0);
  PQclear(result);

  struct {
    pool_stats_t stats;
    unsigned char guard;
  } figures;
  memset(&figures, 0xAA, sizeof figures);
  figures.stats.size = sizeof figures.stats;
  CHECK(pool_stats(pool, &figures.stats) == POOL_OK && figures.guard == 0xAA);
  CHECK(figures.stats.max_size == 2 && figures.stats.in_use == 2 && figures.stats.gets == 2);

  CHECK(pool_put(pool, one) == POOL_OK && pool_put(pool, one) == POOL_ENOTLEASED);
  CHECK(pool_discard(pool, other) == POOL_OK && pool_close(pool) == POOL_OK && pool_close(pool) == POOL_ECLOSED);
}

static void a_hosted_pool_counts_its_objects(void) {
  pool_options_t options;
  CHECK(pool_options_init(&options, sizeof options) == POOL_OK);
  options.max_size = 1;
  pool_t *pool = pool_create_hosted(&options);
  int ends[2];
  if (!CHECK(pool != NULL && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0)) return;
  void *token = pool_get(pool, 1000);
  CHECK(token != NULL && (POOL_TOKEN_FLAGS(token) & POOL_FRESH) != 0 && POOL_TOKEN_SLOT(token) == 0);
  CHECK(pool_adopt(pool, token, ends[0]) == POOL_OK && pool_put(pool, token) == 0);
  void *again = pool_get(pool, 1000);
  CHECK(again != NULL && again != token && (POOL_TOKEN_FLAGS(again) & POOL_FRESH) == 0);
  CHECK(pool_discard(pool, again) == POOL_OK && pool_close(pool) == POOL_OK);
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  what_it_lends_works();
  a_hosted_pool_counts_its_objects();
  return failures != 0;
}
