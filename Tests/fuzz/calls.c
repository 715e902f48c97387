/* Sequences of calls: each byte of the input is a call or one of its arguments, right or wrong: pools that are open,
 * closed, or never were; connections lent, given back, of another pool, or none; hosted tokens with a bit changed.
 * After each call what is promised is looked at: calls_checks.c. */
#include "calls.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int sockets[2];

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static PGconn *foreign;

int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count, (void)arguments;
  fake_server_start();
  foreign = PQconnectdb("dbname=good");
  HOLDS(PQstatus(foreign) == CONNECTION_OK, "%s", PQerrorMessage(foreign));
  HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0, "no sockets");
  return 0;
}

static int contexts_given;

/* What closed pools leave to the background comes to its end: every context given is freed once, and of the sessions
 * only the foreign one is left. */
static void check_rest(void) {
  int64_t end = now_ms() + 5000;
  while ((atomic_load(&contexts_freed) < contexts_given || fake_server_sessions() > 1) && now_ms() < end)
    usleep(200);
  HOLDS(atomic_load(&contexts_freed) == contexts_given, "%d contexts freed of %d", atomic_load(&contexts_freed),
        contexts_given);
  HOLDS(fake_server_sessions() <= 1, "%d sessions left", fake_server_sessions());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static unsigned inputs;
  struct input input = {data, data + size};
  struct world world = {.sockets = {sockets[0], sockets[1]}, .foreign = foreign};
  int64_t start = now_ms();
  for (int calls = 0; has_more(&input) && calls < 60 && now_ms() - start < 1000; calls++) {
    int64_t before = now_ms();
    make_call(&world, &input);
    int64_t took = now_ms() - before;
    HOLDS(took < 2000, "a call took %d ms", (int)took); /* timeouts are 20 ms at most */
    check_pools(&world);
  }
  end_world(&world);
  contexts_given += world.contexts;
  /* It takes a tenth of a second: not after each, but after the only one of a replay. */
  if (inputs++ % 8 == 0)
    check_rest();
  return 0;
}
