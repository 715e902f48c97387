/* Pools for tests. */
#ifndef POOLS_H
#define POOLS_H

#include "dbpool.h"
#include "harness.h"
#include "server.h"

#include <libpq-fe.h>
#include <stddef.h>

/* The default options with a name of its own, which is also the application_name that the server shows. */
pool_options_t options_sized(int min_size, int max_size);
pool_t *open_pool(int min_size, int max_size);
/* pool_create() of the environment's server with these; says why when it fails. */
pool_t *open_pool_with(const pool_options_t *options);

int64_t stat_at(pool_t *pool, size_t offset);
#define STAT(pool, member) stat_at(pool, offsetof(pool_stats_t, member))

/* A loan whose backend answers `select 1`; NULL and a failed check otherwise. */
PGconn *get_working(pool_t *pool, int timeout_ms);
bool works(PGconn *conn);

/* Under valgrind: waits until the connector threads are gone. What they have of their own in OpenSSL would look lost in a
 * child, and at its end. */
void settle_threads(void);

/* Every function that takes a pool, with one that is none, or no longer one: all answer with this code. */
void check_every_function(pool_t *pool, int code);

/* Closes a pool that must be whole again: nothing lent, nobody waiting. */
void close_whole(pool_t *pool);

/* Threads that borrow and give back until told to stop. */
struct load;
struct load *start_load(pool_t *pool, int threads, int hold_us);
struct load_result {
  long loans;
  long errors;
  long fewest; /* loans of the thread that had the fewest */
  long most;
  int first_error;
};
struct load_result stop_load(struct load *load);
/* Loans so far. */
long load_loans(struct load *load);

#endif
