/* Each call made to fail in turn: a life of a pool is lived once for each call of each function, in a process of its
 * own, and that call fails. Then everything works again, nothing is left over, and every failure had a code.
 *
 *   main [--quick] [FUNCTION...]
 *
 * --quick tries the first calls of each function and then some. A line per function; ends with `N passed, M failed`. */
#include "failing.h"
#include "life.h"
#include "one_round.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 14, MOST_TALLIES = 128, LIMIT_MS = 60000, NOT_REACHED = 77, MOST_CALLS = 30000 };

struct tally {
  const char *life;
  int function;
  long tried;
  long bad;
  bool reached_end;
};

struct run {
  pid_t pid; /* 0: none */
  struct tally *tally;
  int64_t end;
  long n;
  bool and_after;
};

static struct tally tallies[MOST_TALLIES];
static struct run runs[AT_ONCE];
static bool quick;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void live(const struct tally *tally, long n, bool and_after) {
  bool good = life_live(tally->life, tally->function, n, and_after);
  fflush(NULL);
  _exit(!good ? 1 : life_reached() ? 0 : NOT_REACHED);
}

static void become_own_program(const struct tally *tally, long n, bool and_after) {
  char number[24];
  snprintf(number, sizeof number, "%ld", n);
  failing_arm_at_load(tally->function, n);
  execl("/proc/self/exe", "main", "--live", tally->life, failing_functions[tally->function].name, number,
        and_after ? "and-after" : "once", (char *)NULL);
  _exit(2);
}

static void start(struct run *run, struct tally *tally, long n, bool and_after) {
  fflush(NULL);
  *run = (struct run){.tally = tally, .end = now_ms() + LIMIT_MS, .n = n, .and_after = and_after};
  run->pid = fork();
  if (run->pid < 0) {
    perror("fork");
    exit(2);
  }
  if (run->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (failing_functions[tally->function].callers & AT_LOAD)
      become_own_program(tally, n, and_after);
    live(tally, n, and_after);
  }
}

static void tell(const struct run *run, int status) {
  struct tally *tally = run->tally;
  if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED) {
    tally->reached_end = true;
    return;
  }
  tally->tried++;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return;
  tally->bad++;
  const char *name = failing_functions[tally->function].name;
  printf("    %s, call %ld of %s%s: ", tally->life, run->n, name, run->and_after ? " and all after it" : "");
  if (WIFSIGNALED(status))
    printf("ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  else
    printf("failed (%d)\n", WEXITSTATUS(status));
}

/* Waits for one run to end, or to take too long. */
static void reap(void) {
  for (;;) {
    bool any = false;
    for (int i = 0; i < AT_ONCE; i++) {
      struct run *run = &runs[i];
      int status = 0;
      if (run->pid == 0)
        continue;
      any = true;
      pid_t ended = waitpid(run->pid, &status, WNOHANG);
      if (ended == 0 && now_ms() > run->end) {
        printf("    took longer than %d s:\n", LIMIT_MS / 1000);
        kill(run->pid, SIGKILL);
        ended = waitpid(run->pid, &status, 0);
      }
      if (ended == 0)
        continue;
      run->pid = 0;
      tell(run, status);
      return;
    }
    if (!any)
      return;
    struct timespec slice = {0, 2000000};
    nanosleep(&slice, NULL);
  }
}

static struct run *free_run(void) {
  for (;;) {
    for (int i = 0; i < AT_ONCE; i++)
      if (runs[i].pid == 0)
        return &runs[i];
    reap();
  }
}

static bool is_busy(void) {
  for (int i = 0; i < AT_ONCE; i++)
    if (runs[i].pid != 0)
      return true;
  return false;
}

/* All, or the first two and then four times as far each time. */
static long next_call(long n) { return !quick || n < 2 ? n + 1 : n * 4; }

static void try_function(struct tally *tally) {
  for (long n = 1; n < MOST_CALLS && !tally->reached_end; n = next_call(n))
    start(free_run(), tally, n, false);
  if (failing_functions[tally->function].callers & (FAILS_ONCE | NEVER_CALLED))
    return;
  for (long n = 1; n <= (quick ? 1 : 6); n++)
    start(free_run(), tally, n * n, true);
}

/* What is never called proves nothing, and what has calls beyond the last that failed not all. */
static bool print_tally(const struct tally *tally) {
  const struct failing *function = &failing_functions[tally->function];
  bool is_called = tally->tried > 0, may_be_called = !(function->callers & NEVER_CALLED);
  bool good = tally->bad == 0 && is_called == may_be_called && (quick || tally->reached_end);
  printf("%-4s  %-7s %-22s %4ld calls failed%s\n", good ? "ok" : "FAIL", tally->life, function->name, tally->tried,
         tally->reached_end ? "" : ", there are more");
  return good;
}

static bool is_wanted(const char *name, int count, char **names) {
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0)
      return true;
  return count == 0;
}

static bool has_role(void) {
  PGconn *conn = PQconnectdb("options='-c client_min_messages=warning'");
  PGresult *result = PQexec(conn, "drop role if exists " LIFE_ROLE "; create role " LIFE_ROLE
                                  " login password '" ONE_ROUND_SECRET "'");
  bool has = PQresultStatus(result) == PGRES_COMMAND_OK;
  if (!has)
    fprintf(stderr, "%s", PQerrorMessage(conn));
  PQclear(result);
  PQfinish(conn);
  return has;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--quick") == 0)
    quick = true, argc--, argv++;
  if (!failing_prepare()) {
    fprintf(stderr, "libdbpool or libpq is not loaded\n");
    return 2;
  }
  if (argc == 6 && strcmp(argv[1], "--live") == 0) {
    bool and_after = strcmp(argv[5], "and-after") == 0;
    long left = strtol(argv[4], NULL, 10) - failing_disarm();
    long n = left > 0 ? left : and_after ? 1 : LONG_MAX;
    for (int i = 0; failing_functions[i].name; i++)
      if (strcmp(failing_functions[i].name, argv[3]) == 0)
        live(&(struct tally){.life = argv[2], .function = i}, n, and_after);
  }
  if (!has_role())
    return 2;
  int count = 0, passed = 0, failed = 0;
  for (int life = 0; life_names[life]; life++)
    for (int i = 0; failing_functions[i].name && count < MOST_TALLIES; i++)
      if (is_wanted(failing_functions[i].name, argc - 1, argv + 1) &&
          life_uses(life_names[life], failing_functions[i].name)) {
        tallies[count] = (struct tally){.life = life_names[life], .function = i};
        try_function(&tallies[count++]);
      }
  while (is_busy())
    reap();
  for (int i = 0; i < count; i++)
    *(print_tally(&tallies[i]) ? &passed : &failed) += 1;
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0;
}
