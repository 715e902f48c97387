/* What the fuzzer of calls knows of its pools, loans and tickets, and what must hold after each call. */
#ifndef CALLS_H
#define CALLS_H

#include "fake_server.h"
#include "input.h"

#include <dbpool.h>
#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { POOLS = 4, LOANS = 16, TICKETS = 16, TOKENS = 8 };

struct loan {
  void *conn; /* NULL: none */
  int pool;
  bool fresh; /* of a hosted pool: granted, not adopted */
  bool clean; /* of a native pool: nothing was done to it that pool_put() may mind */
};

struct ticket {
  pool_ticket_t number; /* 0: none */
  int pool;
};

struct known_pool {
  pool_t *pool;
  bool hosted;
  bool closed;
  bool shrunk; /* total may be above max_size */
  bool background;
  bool owns_context;
};

struct world {
  struct known_pool pools[POOLS];
  struct loan loans[LOANS];
  struct ticket tickets[TICKETS];
  void *stale[TOKENS]; /* what was a loan once */
  int next_stale;
  int sockets[2]; /* a pair, for hosted objects */
  int contexts;   /* given to the library */
  PGconn *foreign;
};

extern const char fuzz_password[];

/* A code that the header names, with a message, and no secret in it. */
void check_code(int code);
/* The statistics of every pool fit together and fit what is known. */
void check_pools(struct world *world);
/* A new loan: nobody has it. */
void note_loan(struct world *world, int pool, void *conn, bool fresh);
void drop_loan(struct world *world, struct loan *loan);
void collect_rest(const struct known_pool *known);
void end_world(struct world *world);

bool make_pool(struct world *world, struct input *input);
void make_call(struct world *world, struct input *input);

extern atomic_int contexts_freed;

#endif
