/* One call, as the input says. */
#include "calls.h"

#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------- arguments, right and wrong */

static int some_time(struct input *input) {
  static const int times[] = {0, 0, 1, 2, 5, 20, -3, -1000};
  return times[next_below(input, 8)];
}

/* Mostly a pool that is there; else none, one with a bit changed, or an address. */
static pool_t *some_pool(struct world *world, struct input *input, int *place) {
  int kind = next_byte(input);
  *place = kind % POOLS;
  pool_t *pool = world->pools[*place].pool;
  if (kind < 230)
    return pool;
  *place = -1;
  switch (kind % 4) {
  case 0: return NULL;
  case 1: return (pool_t *)world;
  case 2: return (pool_t *)((uintptr_t)pool ^ (1ull << next_below(input, 64)));
  default: return (pool_t *)(uintptr_t)next_word(input);
  }
}

static struct loan *some_loan(struct world *world, struct input *input) {
  int first = next_byte(input);
  for (int i = 0; i < LOANS; i++)
    if (world->loans[(first + i) % LOANS].conn)
      return &world->loans[(first + i) % LOANS];
  return NULL;
}

static struct ticket *some_ticket(struct world *world, struct input *input) {
  int first = next_byte(input);
  for (int i = 0; i < TICKETS; i++)
    if (world->tickets[(first + i) % TICKETS].number)
      return &world->tickets[(first + i) % TICKETS];
  return NULL;
}

static bool is_lent(const struct world *world, const void *conn) {
  for (int i = 0; i < LOANS; i++)
    if (world->loans[i].conn == conn)
      return true;
  return false;
}

/* What is no loan of anybody: NULL, a stale one, a foreign one, an address, chance. */
static void *no_loan(struct world *world, struct input *input) {
  void *conn = NULL;
  switch (next_below(input, 5)) {
  case 0: break;
  case 1: conn = world->stale[next_below(input, TOKENS)]; break;
  case 2: conn = world->foreign; break;
  case 3: conn = world; break;
  default: conn = (void *)(uintptr_t)next_word(input); break;
  }
  return is_lent(world, conn) ? NULL : conn;
}

/* A lent one behind another pool, or a token with a bit changed that no loan has. */
static void *twisted(struct world *world, struct input *input) {
  struct loan *loan = some_loan(world, input);
  void *conn = loan ? (void *)((uintptr_t)loan->conn ^ (256ull << next_below(input, 56))) : NULL;
  return is_lent(world, conn) ? NULL : conn;
}

/* ------------------------------------------------------------------------------------------------------ loans */

static void check_result(int code) {
  if (code < 0)
    check_code(code);
}

static void take(struct world *world, int place, void *conn) {
  if (!conn) {
    check_code(pool_errcode());
    return;
  }
  HOLDS(place >= 0, "lent by no pool");
  bool fresh = world->pools[place].hosted && POOL_TOKEN_FLAGS(conn) & POOL_FRESH;
  HOLDS(!fresh || !world->pools[place].background, "a fresh one from a pool that opens in the background");
  note_loan(world, place, conn, fresh);
}

static void call_get(struct world *world, struct input *input) {
  int place;
  pool_t *pool = some_pool(world, input, &place);
  void *conn = pool_get(pool, some_time(input));
  HOLDS(!conn || (place >= 0 && !world->pools[place].closed), "lent by a closed pool");
  take(world, place, conn);
}

static void adopt(struct world *world, struct loan *loan, struct input *input) {
  bool right = next_byte(input) < 230;
  int fd = right ? world->sockets[0] : next_byte(input) + 500;
  int code = pool_adopt(world->pools[loan->pool].pool, loan->conn, fd);
  check_result(code);
  if (world->pools[loan->pool].closed) {
    HOLDS(code < 0, "adopted by a closed pool");
    if (code == POOL_ECLOSED)
      drop_loan(world, loan);
  } else if (right) {
    HOLDS((code == 0) == loan->fresh, "adopt of a %s token: %d: %s", loan->fresh ? "fresh" : "lent", code,
          pool_errmsg());
    loan->fresh = false;
  } else {
    HOLDS(code < 0, "adopted without a socket");
  }
}

static void call_adopt(struct world *world, struct input *input) {
  struct loan *loan = some_loan(world, input);
  if (loan && world->pools[loan->pool].hosted)
    adopt(world, loan, input);
  else
    check_result(pool_adopt(world->pools[next_below(input, POOLS)].pool, no_loan(world, input), world->sockets[0]));
}

static void call_put(struct world *world, struct input *input) {
  struct loan *loan = some_loan(world, input);
  if (!loan)
    return;
  struct known_pool *known = &world->pools[loan->pool];
  int code = pool_put(known->pool, loan->conn);
  check_result(code);
  if (loan->fresh) {
    HOLDS(code == POOL_EINVAL || known->closed, "put of what was not adopted: %d", code);
    return;
  }
  if (known->hosted) {
    HOLDS(code >= 0 && code <= (POOL_CLOSE | POOL_COLLECT), "put: %d: %s", code, pool_errmsg());
    if (code & POOL_CLOSE)
      HOLDS(pool_discard(known->pool, loan->conn) == 0, "%s", pool_errmsg());
  } else {
    HOLDS(code == 0, "put: %d: %s", code, pool_errmsg());
  }
  drop_loan(world, loan);
}

static void call_discard(struct world *world, struct input *input) {
  struct loan *loan = some_loan(world, input);
  if (!loan)
    return;
  struct known_pool *known = &world->pools[loan->pool];
  int code = known->hosted && loan->fresh && next_byte(input) & 1
                 ? pool_fail(known->pool, loan->conn, next_byte(input) & 1 ? "28P01" : NULL, "no\ngood")
                 : pool_discard(known->pool, loan->conn);
  HOLDS(code == 0 || (known->closed && loan->fresh), "discard: %d: %s", code, pool_errmsg());
  check_result(code);
  drop_loan(world, loan);
}

/* Loans given to where they do not belong: refused, and nothing changes. */
static void call_wrongly(struct world *world, struct input *input) {
  int place, kind = next_byte(input);
  pool_t *pool = some_pool(world, input, &place);
  void *conn = kind & 8 ? twisted(world, input) : no_loan(world, input);
  struct loan *loan = some_loan(world, input);
  bool both_hosted = loan && place >= 0 && world->pools[place].hosted && world->pools[loan->pool].hosted;
  if (kind & 16 && loan && place >= 0 && loan->pool != place && !both_hosted)
    conn = loan->conn;
  int code = kind & 1   ? pool_put(pool, conn)
             : kind & 2 ? pool_discard(pool, conn)
                        : pool_fail(pool, conn, "28P01", NULL);
  HOLDS(code < 0, "taken: %d", code);
  check_code(code);
}

/* What a borrower does with its connection. */
static void use(struct world *world, struct input *input) {
  static const char *const queries[] = {"BEGIN", "FAIL", "SELECT", "ROLLBACK", "DIE", ""};
  struct loan *loan = some_loan(world, input);
  int kind = next_below(input, 10);
  if (!loan || world->pools[loan->pool].hosted)
    return;
  PGconn *conn = loan->conn;
  if (PQstatus(conn) != CONNECTION_OK)
    return;
  loan->clean = false;
  if (kind == 6)
    PQsetnonblocking(conn, 1);
  else if (kind == 7)
    PQenterPipelineMode(conn);
  else if (kind == 8)
    PQsendQuery(conn, "SELECT");
  else if (kind == 9)
    PQreset(conn);
  else if (strcmp(PQdb(conn), FAKE_MUTE) == 0)
    PQsendQuery(conn, queries[kind]); /* an answer will not come */
  else
    PQclear(PQexec(conn, queries[kind]));
}

/* ---------------------------------------------------------------------------------------------------- tickets */

static void call_start(struct world *world, struct input *input) {
  int place;
  pool_t *pool = some_pool(world, input, &place);
  pool_ticket_t number = 0;
  for (int i = 0; i < TICKETS; i++)
    if (!world->tickets[i].number) {
      int code = pool_get_start(pool, some_time(input), next_byte(input) == 255 ? NULL : &number);
      check_result(code);
      HOLDS((code == 0) == (number != 0), "ticket %d with %d", (int)number, code);
      HOLDS(code != 0 || place >= 0, "a ticket of no pool");
      if (code == 0)
        world->tickets[i] = (struct ticket){number, place};
      return;
    }
}

/* What was granted before its pool was closed may still be collected. */
static void call_wait(struct world *world, struct input *input) {
  struct ticket *ticket = some_ticket(world, input);
  int place;
  if (!ticket || next_byte(input) > 230) {
    pool_t *pool = some_pool(world, input, &place);
    HOLDS(!pool_get_wait(pool, next_word(input) | 1ull << 63, some_time(input)), "a loan without a ticket");
    check_code(pool_errcode());
    return;
  }
  place = ticket->pool;
  void *conn = pool_get_wait(world->pools[place].pool, ticket->number, some_time(input));
  if (conn || (pool_errcode() != POOL_PENDING && !(pool_errcode() == POOL_EINVAL && strstr(pool_errmsg(), "wait_ms"))))
    *ticket = (struct ticket){0};
  take(world, place, conn);
}

static void call_cancel(struct world *world, struct input *input) {
  struct ticket *ticket = some_ticket(world, input);
  if (!ticket)
    return;
  check_result(pool_get_cancel(world->pools[ticket->pool].pool, ticket->number));
  HOLDS(pool_get_cancel(world->pools[ticket->pool].pool, ticket->number) == POOL_EINVAL ||
            pool_errcode() == POOL_ECLOSED, "cancelled twice");
  *ticket = (struct ticket){0};
}

/* ------------------------------------------------------------------------------------------------------ pools */

static void call_close(struct world *world, struct input *input) {
  int place;
  pool_t *pool = some_pool(world, input, &place);
  int code = pool_close(pool);
  check_result(code);
  if (place >= 0 && pool) {
    HOLDS(code == (world->pools[place].closed ? POOL_ECLOSED : 0), "close: %d", code);
    world->pools[place].closed = true;
  } else {
    HOLDS(code < 0, "closed what is no pool");
  }
}

static void call_resize(struct world *world, struct input *input) {
  int place, min = next_below(input, 6) - 1, max = next_below(input, 9) - 1;
  pool_t *pool = some_pool(world, input, &place);
  int code = pool_resize(pool, min, max);
  check_result(code);
  if (code == 0)
    world->pools[place].shrunk = true;
}

static void call_collect(struct world *world, struct input *input) {
  int place, wanted = next_below(input, 4);
  void *tokens[TOKENS] = {NULL};
  pool_t *pool = some_pool(world, input, &place);
  int count = pool_collect(pool, wanted == 3 && next_byte(input) & 1 ? NULL : tokens, wanted, some_time(input));
  check_result(count);
  for (int i = 0; i < count && pool; i++) {
    HOLDS(place >= 0 && count <= wanted, "%d collected", count);
    if (POOL_TOKEN_FLAGS(tokens[i]) & POOL_FRESH) {
      int code = next_byte(input) & 1 ? pool_adopt(pool, tokens[i], world->sockets[0])
                                      : pool_fail(pool, tokens[i], "53300", "x");
      HOLDS(code == 0 || world->pools[place].closed, "%d: %s", code, pool_errmsg());
      continue;
    }
    HOLDS(pool_discard(pool, tokens[i]) == 0, "%s", pool_errmsg());
  }
}

/* Into a struct of any size. */
static void read_statistics(pool_t *pool, struct input *input) {
  pool_stats_t stats[2];
  memset(stats, 0, sizeof stats);
  size_t size = next_byte(input) & 1 ? next_byte(input) * 2u : sizeof stats[0];
  stats[0].size = size;
  if (size <= sizeof stats)
    check_result(pool_stats(pool, stats));
}

static void call_other(struct world *world, struct input *input) {
  int place, kind = next_below(input, 6);
  pool_t *pool = some_pool(world, input, &place);
  if (kind == 0)
    check_result(pool_wait(pool, some_time(input)));
  else if (kind == 1)
    check_result(pool_pause(pool));
  else if (kind == 2)
    check_result(pool_resume(pool));
  else if (kind == 3)
    check_result(pool_drain(pool, some_time(input)));
  else if (kind == 4)
    check_result(pool_reconnect(pool));
  else
    read_statistics(pool, input);
}

void make_call(struct world *world, struct input *input) {
  static void (*const calls[])(struct world *, struct input *) = {
      call_get, call_get, call_get, call_put, call_put, call_discard, call_wrongly, use, use, call_adopt, call_adopt,
      call_start, call_wait, call_cancel, call_close, call_resize, call_collect, call_other, call_other};
  int kind = next_byte(input);
  if (kind >= 250)
    fake_server_end_sessions();
  else if (kind >= 245)
    usleep(1000u * (unsigned)next_below(input, 8));
  else if (kind >= 210)
    (void)make_pool(world, input);
  else
    calls[kind % (sizeof calls / sizeof *calls)](world, input);
}
