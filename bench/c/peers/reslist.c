/* apr_reslist of the Apache Portable Runtime, which knows nothing of connections and checks none. */
#include "contestant.h"

#include <apr_general.h>
#include <apr_reslist.h>
#include <libpq-fe.h>
#include <stdlib.h>

struct list {
  apr_pool_t *memory;
  apr_reslist_t *list;
};

static apr_status_t connect_one(void **resource, void *parameters, apr_pool_t *memory) {
  (void)parameters;
  (void)memory;
  PGconn *connection = PQconnectdb("");
  if (PQstatus(connection) != CONNECTION_OK) give_up("apr_reslist", PQerrorMessage(connection));
  *resource = connection;
  return APR_SUCCESS;
}

static apr_status_t finish_one(void *resource, void *parameters, apr_pool_t *memory) {
  (void)parameters;
  (void)memory;
  PQfinish(resource);
  return APR_SUCCESS;
}

static void *open_pool(int size) {
  struct list *mine = malloc(sizeof *mine);
  if (mine == NULL || apr_initialize() != APR_SUCCESS || apr_pool_create(&mine->memory, NULL) != APR_SUCCESS)
    give_up("apr_reslist", "no memory");
  if (apr_reslist_create(&mine->list, size, size, size, 0, connect_one, finish_one, NULL, mine->memory) != APR_SUCCESS)
    give_up("apr_reslist", "it cannot be made");
  return mine;
}

static void *get(void *pool) {
  struct list *mine = pool;
  void *loan;
  if (apr_reslist_acquire(mine->list, &loan) != APR_SUCCESS) give_up("apr_reslist", "no connection");
  return loan;
}

static void put(void *pool, void *loan) {
  struct list *mine = pool;
  if (apr_reslist_release(mine->list, loan) != APR_SUCCESS) give_up("apr_reslist", "it takes nothing back");
}

static void close_pool(void *pool) {
  struct list *mine = pool;
  apr_reslist_destroy(mine->list);
  apr_pool_destroy(mine->memory);
  free(mine);
}

__attribute__((noinline)) static void turns_reslist(void *pool, long count) {
  for (long i = 0; i < count; i++) put(pool, get(pool));
}

const struct contestant contestant_reslist = {"apr_reslist", open_pool, get, put, close_pool, turns_reslist};
