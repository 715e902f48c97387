/* What a get and put costs on an open connection.
 *
 *   hot time ROUNDS COUNT                nanoseconds of processor time: a line of JSON for each pool and round
 *   hot NAME COUNT HELD                  does so many of one pool, for a count of instructions
 *
 * HELD connections of the same pool are lent meanwhile: none, or 63 of 64. A second thread is alive, because glibc
 * leaves the atomic operations out while a process has only one. */
#include "clocks.h"
#include "contestant.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HELD = 63, MOST_CONTESTANTS = 8 };

static sem_t end;

static void *second_thread(void *unused) {
  while (sem_wait(&end) != 0) continue;
  return unused;
}

struct entrant {
  const struct contestant *contestant;
  void *pool;
  void *loans[MOST_HELD];
};

static void enter(struct entrant *entrant, const struct contestant *contestant, int held) {
  entrant->contestant = contestant;
  entrant->pool = contestant->open(held + 1);
  for (int i = 0; i < held; i++) entrant->loans[i] = contestant->get(entrant->pool);
  contestant->turns(entrant->pool, 1000);
}

static void leave(struct entrant *entrant, int held) {
  for (int i = 0; i < held; i++) entrant->contestant->put(entrant->pool, entrant->loans[i]);
  entrant->contestant->close(entrant->pool);
}

static int enter_all(struct entrant *entrants, int held) {
  int count = 0;
  for (const struct contestant *const *each = all_pools; *each != NULL; each++) enter(&entrants[count++], *each, held);
  enter(&entrants[count++], &contestant_cas, 0);
  enter(&entrants[count++], &contestant_mutexes, 0);
  return count;
}

/* All in turn, each time another one first: what else the machine does meets all. */
static void print_times(int held, int rounds, long turns) {
  static struct entrant entrants[MOST_CONTESTANTS];
  int count = enter_all(entrants, held);
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < count; i++) {
      struct entrant *entrant = &entrants[(i + round) % count];
      int64_t start = processor_ns();
      entrant->contestant->turns(entrant->pool, turns);
      printf("{\"held\": %d, \"round\": %d, \"pool\": \"%s\", \"ns\": %.2f}\n", held, round,
             entrant->contestant->name, (double)(processor_ns() - start) / (double)turns);
      fflush(stdout);
    }
  for (int i = 0; i < count; i++) {
    int is_pool = i < count - 2;
    leave(&entrants[i], is_pool ? held : 0);
  }
}

static void do_one(const char *name, long turns, int held) {
  static struct entrant entrant;
  enter(&entrant, contestant_named(name), held);
  entrant.contestant->turns(entrant.pool, turns);
  leave(&entrant, held);
}

int main(int argc, char **argv) {
  pthread_t thread;
  if (sem_init(&end, 0, 0) != 0 || pthread_create(&thread, NULL, second_thread, NULL) != 0) return 1;
  if (argc != 4) {
    fprintf(stderr, "usage: hot time ROUNDS COUNT | hot NAME COUNT HELD\n");
    return 2;
  }
  if (strcmp(argv[1], "time") == 0) {
    print_times(0, atoi(argv[2]), atol(argv[3]));
    print_times(MOST_HELD, atoi(argv[2]), atol(argv[3]));
  } else {
    int held = atoi(argv[3]);
    if (held < 0 || held > MOST_HELD) give_up("hot", "at most 63 are held");
    do_one(argv[1], atol(argv[2]), held);
  }
  sem_post(&end);
  return pthread_join(thread, NULL);
}
