/* Threads of different priority on one processor: one that is preempted while it holds the connection, or the pool's lock,
 * does not keep a more urgent one waiting. */
#include "pools.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { BORROWERS = 3, URGENT_MS = 1000, RUN_MS = 1200, HOLD_US = 200, BUSY_US = 5000 };

/* What each thread does, and how urgent it is: the busy one preempts those that borrow, the urgent one all of them. */
enum { BORROWING = 1, BUSY = 10, URGENT = 20 };

struct scene {
  pool_t *pool;
  int64_t end_us;
  atomic_int refused; /* an errno: there is no right to such threads */
  atomic_long loans, urgent_loans, busy_turns;
  _Atomic int64_t longest_us;
};

/* False: the scene is not played. All on one processor, so that one runs at a time. */
static bool enter(struct scene *scene, int priority) {
  cpu_set_t allowed, one;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return false;
  int processor = 0;
  while (processor < CPU_SETSIZE - 1 && !CPU_ISSET(processor, &allowed))
    processor++;
  CPU_SET(processor, &one);
  int error = pthread_setaffinity_np(pthread_self(), sizeof one, &one);
  if (error == 0)
    error = pthread_setschedparam(pthread_self(), SCHED_FIFO, &(struct sched_param){.sched_priority = priority});
  if (error != 0)
    atomic_store(&scene->refused, error);
  return error == 0;
}

static void rest_us(int us) { nanosleep(&(struct timespec){0, (long)us * 1000}, NULL); }

/* One loan; how long the get took. */
static int64_t borrow(struct scene *scene, int timeout_ms, atomic_long *loans) {
  int64_t start = now_us();
  void *conn = pool_get(scene->pool, timeout_ms);
  int64_t took = now_us() - start;
  if (!CHECK(conn != NULL))
    return took;
  rest_us(HOLD_US);
  CHECK_INT(pool_put(scene->pool, conn), ==, 0);
  atomic_fetch_add(loans, 1);
  return took;
}

static void *keep_borrowing(void *argument) {
  struct scene *scene = argument;
  while (enter(scene, BORROWING) && now_us() < scene->end_us)
    borrow(scene, slow(10000), &scene->loans);
  return NULL;
}

static void *be_busy(void *argument) {
  struct scene *scene = argument;
  if (!enter(scene, BUSY))
    return NULL;
  for (; now_us() < scene->end_us; rest_us(BUSY_US / 5)) {
    for (int64_t until = now_us() + BUSY_US; now_us() < until;)
      continue;
    atomic_fetch_add(&scene->busy_turns, 1);
  }
  return NULL;
}

static void *borrow_urgently(void *argument) {
  struct scene *scene = argument;
  if (!enter(scene, URGENT))
    return NULL;
  for (; now_us() < scene->end_us; rest_us(HOLD_US)) {
    int64_t took = borrow(scene, URGENT_MS, &scene->urgent_loans);
    if (took > atomic_load(&scene->longest_us))
      atomic_store(&scene->longest_us, took);
  }
  return NULL;
}

TEST(an_urgent_get_is_in_time_while_those_that_borrow_are_preempted) {
  if (is_slow_run()) {
    printf("    not tried under a tool, which runs one thread at a time\n");
    return;
  }
  struct scene scene = {.pool = open_pool(1, 1)};
  REQUIRE(scene.pool);
  REQUIRE_INT(pool_wait(scene.pool, slow(5000)), ==, 0);
  scene.end_us = now_us() + RUN_MS * 1000;
  pthread_t threads[BORROWERS + 2];
  for (int i = 0; i < BORROWERS + 2; i++) {
    void *(*body)(void *) = i < BORROWERS ? keep_borrowing : i == BORROWERS ? be_busy : borrow_urgently;
    REQUIRE_INT(pthread_create(&threads[i], NULL, body, &scene), ==, 0);
  }
  for (int i = 0; i < BORROWERS + 2; i++)
    pthread_join(threads[i], NULL);
  int refused = atomic_load(&scene.refused);
  if (refused != 0) {
    printf("    NOT TRIED: SCHED_FIFO is refused: %s\n", strerror(refused));
  } else {
    printf("    %ld urgent loans, %ld others, %ld times preempted; the longest get %jd ms\n", atomic_load(&scene.urgent_loans),
           atomic_load(&scene.loans), atomic_load(&scene.busy_turns), (intmax_t)atomic_load(&scene.longest_us) / 1000);
    CHECK_INT(atomic_load(&scene.urgent_loans), >, 0);
    CHECK_INT(atomic_load(&scene.loans), >, 0);
    CHECK_INT(atomic_load(&scene.busy_turns), >, 10);
    CHECK_INT(atomic_load(&scene.longest_us), <=, URGENT_MS * 1000);
  }
  close_whole(scene.pool);
}
