/* The host of a hosted pool, as a driver with connection objects of its own would be: one libpq connection for each slot,
 * made here and never by the library. It follows the header to the letter and checks what the header promises a host. */
#ifndef HOST_H
#define HOST_H

#include "pools.h"

#include <libpq-fe.h>
#include <stdatomic.h>

struct host {
  pool_t *pool;
  char name[POOL_NAME_LIMIT + 1]; /* application_name of its sessions */
  char conninfo[256];
  int slots;
  PGconn **objects; /* by slot: whoever has the slot's token may touch the object */
  atomic_int *held; /* 1: somebody has */
  atomic_int open;
  atomic_int most_open;
};

/* NULL and a failed check when there is no pool. */
struct host *host_start(int min_size, int max_size);
struct host *host_start_with(const pool_options_t *options);

/* A loan with an open object: pool_get(), and what it asks for; with a timeout, a slot whose old object must go is vacated
 * first. One that cannot be opened is given to pool_fail(), and NULL returned with the code of pool_get() or POOL_ECONNECT
 * in `host_code()`. */
void *host_get(struct host *host, int timeout_ms);
int host_code(void);
/* As host_get() for what another function than pool_get() has granted. */
void *host_take(struct host *host, void *token);
/* Opens the object of a fresh token, after closing the slot's old one; what pool_adopt() answers, or POOL_ECONNECT. */
int host_adopt(struct host *host, void *token);
/* Only opens it. */
PGconn *host_connect(struct host *host, void *token);
PGconn *host_object(struct host *host, void *token);
/* A loan whose backend answers; NULL and a failed check otherwise. */
void *host_get_working(struct host *host, int timeout_ms);

/* What pool_put() answers, after doing as it says. */
int host_put(struct host *host, void *token);
/* Closes the object, and no call. */
void host_forget(struct host *host, void *token);
/* Only the call. */
int host_put_only(struct host *host, void *token);
/* Closes the object, then pool_discard(). */
int host_discard(struct host *host, void *token);
/* Does what pool_collect() has to be done: closes, and with background_open opens; how many, or its code. */
int host_collect(struct host *host, int timeout_ms);
/* Opens `count` objects and puts them all back. */
void host_fill(struct host *host, int count);
/* Backend of the loan's object. */
int host_pid(struct host *host, void *token);

/* Closes a pool that must be whole again, and all objects as pool_collect() names them: none may be left over. */
void host_end(struct host *host);
/* The second half, for a pool that is closed already. */
void host_free(struct host *host);

/* Threads that borrow, ask the server, and give back until told to stop. */
struct host_load;
struct host_load *host_load_start(struct host *host, int threads, int hold_us);
long host_load_loans(struct host_load *load);
struct load_result host_load_stop(struct host_load *load);

#endif
