/* What programs write themselves: a list of connections, a mutex and a condition variable. Nothing is checked. */
#include "contestant.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdlib.h>

struct stack {
  pthread_mutex_t mutex;
  pthread_cond_t is_one_free;
  int count;
  PGconn *connections[];
};

static void *open_pool(int size) {
  struct stack *mine = malloc(sizeof *mine + (size_t)size * sizeof *mine->connections);
  if (mine == NULL) give_up("mutex and condition", "no memory");
  pthread_mutex_init(&mine->mutex, NULL);
  pthread_cond_init(&mine->is_one_free, NULL);
  for (mine->count = 0; mine->count < size; mine->count++) {
    PGconn *connection = PQconnectdb("");
    if (PQstatus(connection) != CONNECTION_OK) give_up("mutex and condition", PQerrorMessage(connection));
    mine->connections[mine->count] = connection;
  }
  return mine;
}

static void *get(void *pool) {
  struct stack *mine = pool;
  pthread_mutex_lock(&mine->mutex);
  while (mine->count == 0) pthread_cond_wait(&mine->is_one_free, &mine->mutex);
  void *loan = mine->connections[--mine->count];
  pthread_mutex_unlock(&mine->mutex);
  return loan;
}

static void put(void *pool, void *loan) {
  struct stack *mine = pool;
  pthread_mutex_lock(&mine->mutex);
  mine->connections[mine->count++] = loan;
  pthread_mutex_unlock(&mine->mutex);
  pthread_cond_signal(&mine->is_one_free);
}

static void close_pool(void *pool) {
  struct stack *mine = pool;
  while (mine->count > 0) PQfinish(mine->connections[--mine->count]);
  free(mine);
}

__attribute__((noinline)) static void turns_condition(void *pool, long count) {
  for (long i = 0; i < count; i++) put(pool, get(pool));
}

const struct contestant contestant_condition = {"mutex and condition", open_pool, get, put, close_pool, turns_condition};
