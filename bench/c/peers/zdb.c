/* libzdb. Its 3.1 does not wait when all are lent: a program has to ask again. */
#include "contestant.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <zdb.h>

/* Between two questions: shorter than a loan, long enough not to take the processor from those who work. */
enum { MOMENT_US = 50 };

static void refuse(const char *error) { give_up("libzdb", error); }

static const char *variable(const char *name) {
  const char *found = getenv(name);
  if (found == NULL) give_up("libzdb", "PGHOST and the like are not set");
  return found;
}

static void *open_pool(int size) {
  char text[512];
  snprintf(text, sizeof text, "postgresql://%s:%s/%s?user=%s&password=%s", variable("PGHOST"), variable("PGPORT"),
           variable("PGDATABASE"), variable("PGUSER"), variable("PGPASSWORD"));
  ConnectionPool_T pool = ConnectionPool_new(URL_new(text));
  ConnectionPool_setInitialConnections(pool, size);
  ConnectionPool_setMaxConnections(pool, size);
  ConnectionPool_setAbortHandler(pool, refuse);
  ConnectionPool_start(pool);
  if (ConnectionPool_size(pool) != size) give_up("libzdb", "it has not opened its connections");
  return pool;
}

static void *get(void *pool) {
  for (;;) {
    void *loan = ConnectionPool_getConnection(pool);
    if (loan != NULL) return loan;
    usleep(MOMENT_US);
  }
}

static void put(void *pool, void *loan) {
  (void)pool;
  Connection_close(loan);
}

static void close_pool(void *pool) {
  ConnectionPool_T mine = pool;
  URL_T url = ConnectionPool_getURL(mine);
  ConnectionPool_stop(mine);
  ConnectionPool_free(&mine);
  URL_free(&url);
}

__attribute__((noinline)) static void turns_zdb(void *pool, long count) {
  for (long i = 0; i < count; i++) {
    void *loan = ConnectionPool_getConnection(pool);
    if (loan == NULL) give_up("libzdb", "no connection");
    Connection_close(loan);
  }
}

const struct contestant contestant_zdb = {"libzdb", open_pool, get, put, close_pool, turns_zdb};
