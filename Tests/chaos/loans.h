/* The pools of the oracle, and the ways to borrow from them and to give back. */
#ifndef LOANS_H
#define LOANS_H

#include "dbpool.h"
#include "jobs.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { POOLS = 2, LEAST_SIZE = 4, MOST_SIZE = 8 };

/* The first rolls back only, and reads its password from a provider of conninfos; the second discards everything,
 * pings, and leaves the password to libpq's passfile. */
extern pool_t *pools[POOLS];
extern atomic_long log_lines;

/* `gentle`: sessions stay as they are, and nothing may fail. */
void pools_open(bool gentle);
/* The named pool of index `i`. */
const char *pool_name_of(int i);

/* One loan from one of the pools, in one of the ways, with some jobs. */
void loan_any(struct worker *worker);
/* pool_get(), a gentle job, pool_put(); false: it did not work. */
bool loan_gentle(struct worker *worker, pool_t *pool, int timeout_ms);

#endif
