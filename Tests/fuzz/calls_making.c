/* Pools of all kinds, with callbacks that answer and callbacks that refuse. */
#include "calls.h"

#include <string.h>

const char fuzz_password[] = "Kan4rieNvogel";

/* A callback finds its behaviour in its context: static, so that a late one reads no freed memory. */
enum { KINDS = 8 };
static char kinds[KINDS];
atomic_int contexts_freed;

static int kind_of(void *context) { return (int)((char *)context - kinds); }

static void on_log(void *context, int level, const char *message) {
  (void)context;
  HOLDS(level >= POOL_LOG_DEBUG && level <= POOL_LOG_ERROR, "level %d", level);
  HOLDS(message && !strstr(message, fuzz_password), "a log line: %s", message ? message : "NULL");
}

static int on_configure(void *context, void *conn) {
  HOLDS(conn != NULL, "no connection to configure");
  int kind = kind_of(context);
  if (strcmp(PQdb(conn), FAKE_MUTE) == 0)
    return 0; /* a query would never end */
  if (kind & 1)
    PQclear(PQexec(conn, "SET"));
  if (kind & 2)
    PQclear(PQexec(conn, "BEGIN")); /* against the rules */
  return kind == 4;
}

static int on_conninfo(void *context, char *buffer, size_t size) {
  static const char *const texts[] = {"", "dbname=good password=Kan4rieNvogel", "dbname=busy", "nonsense", "host='",
                                      "dbname=short", "dbname=refused"};
  int kind = kind_of(context);
  HOLDS(size == POOL_CONNINFO_LIMIT, "%zu bytes", size);
  if (kind == 7)
    memset(buffer, 'x', size); /* against the rules: no NUL */
  else
    snprintf(buffer, size, "%s", texts[kind]);
  return kind == 6;
}

static void on_free(void *context) {
  (void)context;
  atomic_fetch_add(&contexts_freed, 1);
}

static void set_callbacks(pool_options_t *options, struct input *input, bool hosted) {
  int which = next_byte(input);
  options->context = &kinds[next_below(input, KINDS)];
  options->log = which & 1 ? on_log : NULL;
  options->configure = which & 2 && !(hosted && which & 4) ? on_configure : NULL;
  options->conninfo_provider = which & 8 && !(hosted && which & 4) ? on_conninfo : NULL;
  options->context_free = which & 16 ? on_free : NULL;
}

static void set_numbers(pool_options_t *options, struct input *input) {
  static const int times[] = {1, 5, 20, 100, 1000, 0, -1, -2};
  int *const members[] = {&options->acquire_timeout_ms, &options->connect_timeout_ms, &options->max_lifetime_ms,
                          &options->idle_timeout_ms, &options->check_after_idle_ms, &options->check_timeout_ms,
                          &options->leak_threshold_ms};
  /* Short, as an end of the pool waits for what it has begun. */
  options->connect_timeout_ms = options->check_timeout_ms = 30;
  options->max_size = 1 + next_below(input, 5);
  options->min_size = next_below(input, 4);
  for (int changes = next_below(input, 4); changes > 0; changes--)
    *members[next_below(input, 7)] = times[next_below(input, 8)];
  int modes = next_byte(input);
  options->check = modes & 3;
  options->reset = modes >> 2 & 3;
  options->queue_mode = modes >> 4 & 1;
  options->exact_times = modes >> 5 & 1;
  options->background_open = modes >> 6 & 1;
  options->max_waiting = modes >> 7 ? 1 + next_below(input, 3) : 0;
  options->reset_query = options->reset == POOL_RESET_QUERY ? "SET" : NULL;
  if (options->acquire_timeout_ms < 0)
    options->acquire_timeout_ms = 5; /* a wait without end is none for a fuzzer */
}

/* As long as the input says; what a longer struct has behind is zero, or not. */
static const pool_options_t *resized(const pool_options_t *options, struct input *input, unsigned char memory[512]) {
  size_t size = sizeof *options;
  int kind = next_below(input, 16);
  memset(memory, 0, 512);
  memcpy(memory, options, sizeof *options);
  if (kind == 1)
    size = next_byte(input);
  if (kind == 2 || kind == 3)
    size = 512;
  if (kind == 3)
    memory[sizeof *options + next_byte(input)] = 1;
  memcpy(memory, &size, sizeof size);
  return (const pool_options_t *)memory;
}

static pool_t *create(const char *conninfo, const pool_options_t *options, bool hosted) {
  return hosted ? pool_create_hosted(options) : pool_create(conninfo, options);
}

bool make_pool(struct world *world, struct input *input) {
  static const char *const conninfos[] = {
      "",          "dbname=good password=Kan4rieNvogel", "dbname=refused", "dbname=busy",  "dbname=silent",
      "dbname=garbage", "dbname=short",                  "dbname=mute",    "dbname=good pool_max_size=2",
      "host=/nonexistent"};
  int place = next_below(input, POOLS), kind = next_byte(input);
  struct known_pool *known = &world->pools[place];
  if (known->pool && !known->closed)
    return false;
  for (int i = 0; i < LOANS; i++)
    if (world->loans[i].conn && world->loans[i].pool == place)
      return false;
  if (known->pool)
    collect_rest(known);
  bool hosted = kind & 1;
  pool_options_t options = POOL_OPTIONS_INIT;
  unsigned char memory[512] __attribute__((aligned(16)));
  set_numbers(&options, input);
  set_callbacks(&options, input, hosted);
  const pool_options_t *given = resized(&options, input, memory);
  if (hosted && kind & 2) { /* what a hosted pool takes */
    pool_options_t *change = (pool_options_t *)memory;
    change->configure = NULL, change->conninfo_provider = NULL, change->reset_query = NULL;
    change->reset = POOL_RESET_ROLLBACK;
    change->check %= POOL_CHECK_PING;
  }
  pool_t *pool = create(conninfos[(kind >> 2) % 10], given, hosted);
  if (!pool) {
    check_code(pool_errcode());
    return false;
  }
  for (int i = 0; i < POOLS; i++)
    HOLDS(world->pools[i].pool != pool, "a token given twice");
  /* A shorter struct may end before a member, which is then the default. */
  bool owns = given->size > offsetof(pool_options_t, context_free) && options.context_free != NULL;
  bool background = given->size > offsetof(pool_options_t, background_open) && options.background_open != 0;
  *known = (struct known_pool){.pool = pool, .hosted = hosted, .owns_context = owns,
                               .background = hosted && background};
  world->contexts += owns;
  return true;
}
