/* What must hold after each call. */
#include "calls.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

void check_code(int code) {
  HOLDS(code <= POOL_EINVAL && code >= POOL_ECANCELED, "code %d", code);
  HOLDS(code != POOL_EINTERNAL, "an internal error: %s", pool_errmsg());
  HOLDS(pool_errcode() == code, "%d returned, %d told", code, pool_errcode());
  HOLDS(pool_errmsg()[0] != 0, "no message for %d", code);
  HOLDS(!strstr(pool_errmsg(), fuzz_password), "the password in: %s", pool_errmsg());
  HOLDS(pool_strerror(code)[0] != 0, "no text for %d", code);
}

static int count_loans(const struct world *world, int pool) {
  int count = 0;
  for (int i = 0; i < LOANS; i++)
    count += world->loans[i].conn && world->loans[i].pool == pool && !world->loans[i].fresh;
  return count;
}

static int count_tickets(const struct world *world, int pool) {
  int count = 0;
  for (int i = 0; i < TICKETS; i++)
    count += world->tickets[i].number != 0 && world->tickets[i].pool == pool;
  return count;
}

static void check_pool(struct world *world, int place) {
  struct known_pool *known = &world->pools[place];
  pool_stats_t stats = {.size = sizeof stats};
  int code = pool_stats(known->pool, &stats);
  if (known->closed) {
    HOLDS(code == POOL_ECLOSED, "statistics of a closed pool: %d", code);
    return;
  }
  HOLDS(code == 0, "statistics: %d: %s", code, pool_errmsg());
  HOLDS(stats.total == stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing,
        "total %d = idle %d + in use %d + connecting %d + resetting %d + closing %d", (int)stats.total, (int)stats.idle,
        (int)stats.in_use, (int)stats.connecting, (int)stats.resetting, (int)stats.closing);
  HOLDS(known->shrunk || stats.total <= stats.max_size, "%d of %d", (int)stats.total, (int)stats.max_size);
  HOLDS(stats.idle >= 0 && stats.in_use >= 0 && stats.connecting >= 0 && stats.resetting >= 0 && stats.closing >= 0 &&
            stats.waiting >= 0, "a negative gauge");
  HOLDS(stats.internal_errors == 0, "%d internal errors", (int)stats.internal_errors);
  int lent = count_loans(world, place), tickets = count_tickets(world, place);
  HOLDS(stats.in_use >= lent && stats.in_use <= lent + tickets, "%d in use, %d lent, %d tickets", (int)stats.in_use,
        lent, tickets);
  HOLDS(stats.waiting <= tickets, "%d wait, %d tickets", (int)stats.waiting, tickets);
  HOLDS(stats.gets >= stats.puts, "%d gets, %d puts", (int)stats.gets, (int)stats.puts);
}

void check_pools(struct world *world) {
  for (int i = 0; i < POOLS; i++)
    if (world->pools[i].pool)
      check_pool(world, i);
}

void note_loan(struct world *world, int pool, void *conn, bool fresh) {
  struct loan *free_place = NULL;
  for (int i = 0; i < LOANS; i++) {
    struct loan *loan = &world->loans[i];
    HOLDS(loan->conn != conn || (world->pools[pool].hosted && loan->pool != pool), "lent twice");
    if (!loan->conn)
      free_place = loan;
  }
  if (!world->pools[pool].hosted)
    HOLDS(PQstatus(conn) == CONNECTION_OK || PQsocket(conn) >= 0, "lent broken");
  if (!free_place) {
    HOLDS(pool_discard(world->pools[pool].pool, conn) == 0, "%s", pool_errmsg());
    return;
  }
  *free_place = (struct loan){.conn = conn, .pool = pool, .fresh = fresh, .clean = true};
}

void drop_loan(struct world *world, struct loan *loan) {
  world->stale[world->next_stale++ % TOKENS] = loan->conn;
  *loan = (struct loan){0};
}

/* What a host does after pool_close(): its idle objects are closed, or the pool does not come to its end. */
void collect_rest(const struct known_pool *known) {
  void *tokens[TOKENS];
  int count = 0;
  while (known->hosted && (count = pool_collect(known->pool, tokens, TOKENS, 0)) > 0)
    for (int i = 0; i < count; i++)
      HOLDS(pool_discard(known->pool, tokens[i]) == 0, "%s", pool_errmsg());
  HOLDS(!known->hosted || count == 0 || count == POOL_ECLOSED, "%d: %s", count, pool_errmsg());
}

static void give_all_back(struct world *world) {
  for (int i = 0; i < LOANS; i++) {
    struct loan *loan = &world->loans[i];
    if (!loan->conn)
      continue;
    int code = pool_discard(world->pools[loan->pool].pool, loan->conn);
    bool gone = world->pools[loan->pool].closed && world->pools[loan->pool].hosted && code == POOL_ECLOSED;
    HOLDS(code == 0 || gone, "the last discard: %d: %s", code, pool_errmsg());
    *loan = (struct loan){0};
  }
  for (int i = 0; i < TICKETS; i++) {
    struct ticket *ticket = &world->tickets[i];
    if (ticket->number)
      (void)pool_get_cancel(world->pools[ticket->pool].pool, ticket->number);
    *ticket = (struct ticket){0};
  }
}

/* Closes all and looks once more. */
void end_world(struct world *world) {
  give_all_back(world);
  check_pools(world); /* nothing is in use */
  for (int i = 0; i < POOLS; i++)
    if (world->pools[i].pool && !world->pools[i].closed) {
      HOLDS(pool_close(world->pools[i].pool) == 0, "%s", pool_errmsg());
      world->pools[i].closed = true;
    }
  for (int i = 0; i < POOLS; i++)
    if (world->pools[i].pool)
      collect_rest(&world->pools[i]);
  check_pools(world);
}
