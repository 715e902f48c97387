/* Signals belong to the program: the library's threads take none, and a wait survives a handler. */
#include "pools.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static atomic_int handled;

static void handle(int number) {
  (void)number;
  atomic_fetch_add(&handled, 1);
}

static void install(int number, int flags) {
  struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(number, &action, NULL), ==, 0);
}

struct sender {
  pthread_t target;
  atomic_bool stop;
  int period_ms;
};

static void *send_signals(void *argument) {
  struct sender *sender = argument;
  while (!atomic_load(&sender->stop)) {
    nap_ms(sender->period_ms);
    pthread_kill(sender->target, SIGUSR1);
  }
  return NULL;
}

/* A signal each few milliseconds, with and without SA_RESTART, neither ends nor lengthens a wait. */
static void wait_under_signals(int flags) {
  install(SIGUSR1, flags);
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  struct sender sender = {.target = pthread_self(), .period_ms = 3};
  pthread_t thread;
  pthread_create(&thread, NULL, send_signals, &sender);
  int64_t start = now_ms();
  CHECK(pool_get(pool, 300) == NULL);
  int64_t took = now_ms() - start;
  CHECK_INT(pool_errcode(), ==, POOL_ETIMEOUT);
  CHECK_INT(took, >=, 299);
  CHECK_INT(took, <, slow(600));
  CHECK_INT(atomic_load(&handled), >, 0);
  CHECK_INT(pool_drain(pool, 100), ==, POOL_ETIMEOUT);
  CHECK_INT(pool_resume(pool), ==, 0);
  CHECK_INT(pool_discard(pool, held), ==, 0);
  for (int i = 0; i < 20; i++) { /* connecting under signals */
    PGconn *conn = get_working(pool, slow(5000));
    CHECK_INT(i % 2 ? pool_put(pool, conn) : pool_discard(pool, conn), ==, 0);
  }
  atomic_store(&sender.stop, true);
  pthread_join(thread, NULL);
  close_whole(pool);
}

TEST(a_wait_goes_on_through_handlers) { wait_under_signals(0); }
TEST(a_wait_goes_on_through_restarting_handlers) { wait_under_signals(SA_RESTART); }

static void check_pending_after_handler(int flags, int timeout_ms) {
  install(SIGUSR1, flags);
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, timeout_ms, &ticket), ==, 0);
  struct sender sender = {.target = pthread_self(), .period_ms = 50};
  pthread_t thread;
  pthread_create(&thread, NULL, send_signals, &sender);
  int64_t start = now_ms();
  CHECK(pool_get_wait(pool, ticket, POOL_TIMEOUT_INFINITE) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_PENDING);
  CHECK_INT(now_ms() - start, <, slow(5000));
  CHECK_INT(atomic_load(&handled), >, 0);
  atomic_store(&sender.stop, true);
  pthread_join(thread, NULL);
  CHECK_INT(pool_put(pool, held), ==, 0);
  PGconn *conn = pool_get_wait(pool, ticket, POOL_TIMEOUT_DEFAULT);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_handler_ends_the_wait_but_not_the_ticket) { check_pending_after_handler(0, slow(20000)); }

/* Without a deadline the kernel went on with the wait after such a handler, and the caller never woke. */
TEST(a_restarting_handler_ends_a_wait_without_deadline) { check_pending_after_handler(SA_RESTART, POOL_TIMEOUT_INFINITE); }
TEST(a_restarting_handler_ends_a_wait_with_a_deadline) { check_pending_after_handler(SA_RESTART, slow(20000)); }

/* Each thread of the library blocks everything that can be blocked. */
static void check_mask(const char *thread_id) {
  char path[300], line[256];
  snprintf(path, sizeof path, "/proc/self/task/%s/status", thread_id);
  FILE *file = fopen(path, "r");
  if (!file)
    return; /* it has ended */
  while (fgets(line, sizeof line, file)) {
    unsigned long long blocked;
    if (sscanf(line, "SigBlk: %llx", &blocked) != 1)
      continue;
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPROF, SIGURG};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
      CHECK((blocked >> (signals[i] - 1)) & 1);
  }
  fclose(file);
}

TEST(the_librarys_threads_block_all_signals) {
  pool_t *pool = open_pool(5, 5);
  REQUIRE(pool);
  for (int look = 0; look < 20; look++) {
    char own[32];
    snprintf(own, sizeof own, "%d", (int)getpid());
    DIR *folder = opendir("/proc/self/task");
    REQUIRE(folder != NULL);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
      if (entry->d_name[0] != '.' && strcmp(entry->d_name, own) != 0)
        check_mask(entry->d_name);
    closedir(folder);
    nap_ms(5);
  }
  CHECK_INT(running_threads(), >=, 2);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  close_whole(pool);
}

static pthread_t handler_thread;

static void note_thread(int number) {
  (void)number;
  handler_thread = pthread_self();
  atomic_fetch_add(&handled, 1);
}

TEST(a_timer_of_the_program_strikes_the_programs_thread) {
  struct sigaction action = {.sa_handler = note_thread};
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(SIGALRM, &action, NULL), ==, 0);
  pool_t *pool = open_pool(3, 3);
  REQUIRE(pool);
  struct itimerval each = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}};
  CHECK_INT(setitimer(ITIMER_REAL, &each, NULL), ==, 0);
  for (int i = 0; i < 30; i++) {
    PGconn *conn = get_working(pool, slow(5000));
    CHECK_INT(pool_put(pool, conn), ==, 0);
    nap_ms(5);
    CHECK(atomic_load(&handled) == 0 || pthread_equal(handler_thread, pthread_self()));
  }
  CHECK_INT(setitimer(ITIMER_REAL, &off, NULL), ==, 0);
  CHECK_INT(atomic_load(&handled), >, 0);
  close_whole(pool);
}

TEST(the_programs_dispositions_and_mask_stay_as_they_are) {
  struct sigaction before[NSIG], after;
  sigset_t mask_before, mask_after;
  for (int i = 1; i < NSIG; i++)
    if (sigaction(i, NULL, &before[i]) != 0)
      before[i].sa_handler = SIG_ERR;
  sigprocmask(SIG_SETMASK, NULL, &mask_before);
  pool_t *pool = open_pool(2, 2);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  for (int i = 1; i < NSIG; i++)
    if (before[i].sa_handler != SIG_ERR && sigaction(i, NULL, &after) == 0)
      CHECK(before[i].sa_handler == after.sa_handler);
  sigprocmask(SIG_SETMASK, NULL, &mask_after);
  for (int i = 1; i < NSIG; i++)
    CHECK_INT(sigismember(&mask_before, i), ==, sigismember(&mask_after, i));
}
