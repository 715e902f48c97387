#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_LINES = 20 };

static struct test *first;
static struct test **last = &first;
static atomic_int failures;
static const char *argument_of_helper = "";

void harness_add(struct test *test) {
  *last = test;
  last = &test->next;
}

/* ------------------------------------------------------------------------------------------------- checks */

static const char *short_name(const char *file) {
  const char *slash = strrchr(file, '/');
  return slash ? slash + 1 : file;
}

/* A check in a loop that fails each time would bury the others. */
static bool is_worth_a_line(void) {
  int number = atomic_fetch_add(&failures, 1);
  if (number == MOST_LINES)
    fprintf(stderr, "    further failures of this test are not printed\n");
  return number < MOST_LINES;
}

bool harness_check(bool holds, const char *file, int line, const char *what) {
  if (holds)
    return true;
  if (is_worth_a_line())
    fprintf(stderr, "    %s:%d: does not hold: %s\n", short_name(file), line, what);
  return false;
}

bool harness_relation(intmax_t left, const char *relation, intmax_t right, const char *file, int line,
                      const char *left_text, const char *right_text) {
  bool holds = strcmp(relation, "==") == 0   ? left == right
               : strcmp(relation, "!=") == 0 ? left != right
               : strcmp(relation, "<") == 0  ? left < right
               : strcmp(relation, "<=") == 0 ? left <= right
               : strcmp(relation, ">") == 0  ? left > right
                                             : left >= right;
  if (holds)
    return true;
  if (is_worth_a_line())
    fprintf(stderr, "    %s:%d: does not hold: %s %s %s (%jd %s %jd)\n", short_name(file), line, left_text, relation, right_text,
            left, relation, right);
  return false;
}

bool harness_check_text(const char *text, const char *part, bool wanted, const char *file, int line) {
  bool found = text != NULL && strstr(text, part) != NULL;
  if (found == wanted)
    return true;
  if (is_worth_a_line())
    fprintf(stderr, "    %s:%d: \"%s\" %s in: %s\n", short_name(file), line, part, wanted ? "is missing" : "must not be",
            text ? text : "(null)");
  return false;
}

void check_within(int64_t bound_ms, int attempts, int64_t (*measure)(void *), void *context, const char *file,
                  int line) {
  int64_t bound = slow((int)bound_ms), best = INT64_MAX;
  for (int i = 0; i < attempts && best > bound; i++) {
    int64_t took = measure(context);
    if (took < 0) {
      harness_check(false, file, line, "the measurement failed");
      return;
    }
    best = took < best ? took : best;
  }
  harness_relation(best, "<=", bound, file, line, "the best of the measured ms", "the bound");
}

/* --------------------------------------------------------------------------------------------- time, scale */

static int setting(const char *name) {
  const char *text = getenv(name);
  int value = text ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

int scaled(int count) {
  int value = count / setting("POOL_TEST_SCALE");
  return value > 0 ? value : 1;
}

int slow(int ms) { return ms * setting("POOL_TEST_SLOW"); }

bool is_slow_run(void) { return setting("POOL_TEST_SLOW") > 1; }

int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t now_ms(void) { return now_us() / 1000; }

void nap_ms(int ms) {
  struct timespec rest = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
    continue;
}

int64_t nap_late_us(int ms) {
  int64_t start = now_us();
  nap_ms(ms);
  return now_us() - start - (int64_t)ms * 1000;
}

void observe_ms(int ms) { nap_ms(ms); }

/* ------------------------------------------------------------------------------------------ process figures */

static int count_entries(const char *path) {
  int count = 0;
  DIR *folder = opendir(path);
  if (!folder)
    return -1;
  for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
    count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

int open_descriptors(void) { return count_entries("/proc/self/fd") - 1; }

int running_threads(void) { return count_entries("/proc/self/task"); }

long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file)
    return -1;
  if (fscanf(file, "%*d %ld", &pages) != 1)
    pages = -1;
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* ------------------------------------------------------------------------------------------ child processes */

/* Waits for the child's end; kills its whole group when the time is up. SIGCHLD is blocked, so none is missed. */
static int await_child(pid_t pid, int64_t end) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  int status = 0;
  for (;;) {
    pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid)
      return status;
    int64_t left = end - now_ms();
    if (left <= 0 || (ended < 0 && errno != EINTR))
      break;
    struct timespec rest = {left / 1000, (left % 1000) * 1000000};
    sigtimedwait(&set, NULL, &rest);
  }
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return -1;
}

static void block_sigchld(bool block) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Where each thread of a hung test stands, for the reader of the log. */
static void print_threads(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *folder = opendir(path);
  for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
    if (entry->d_name[0] == '.')
      continue;
    char file_name[400], comm[64] = "", call[160] = "";
    snprintf(file_name, sizeof file_name, "%s/%s/comm", path, entry->d_name);
    FILE *file = fopen(file_name, "r");
    if (file && !fgets(comm, sizeof comm, file))
      comm[0] = 0;
    if (file)
      fclose(file);
    snprintf(file_name, sizeof file_name, "%s/%s/syscall", path, entry->d_name);
    file = fopen(file_name, "r");
    if (file && !fgets(call, sizeof call, file))
      call[0] = 0;
    if (file)
      fclose(file);
    comm[strcspn(comm, "\n")] = 0;
    call[strcspn(call, "\n")] = 0;
    fprintf(stderr, "    thread %s (%s) in system call %s\n", entry->d_name, comm, call);
  }
  if (folder)
    closedir(folder);
}

int resting_threads(void) {
#ifdef POOL_TEST_TSAN
  return 3;
#else
  return 2;
#endif
}

/* A tool that looks for lost memory at exit must not meet a thread in the middle of its work: what closed pools leave
 * to the background gets the time for it. */
static void settle(void) {
  for (int64_t end = now_ms() + 5000; getenv("POOL_TEST_SETTLE") && running_threads() > resting_threads() && now_ms() < end;)
    nap_ms(10);
}

static bool run_test(const struct test *test) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0) {
    perror("fork");
    return false;
  }
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* its group is its own: it would outlive a harness that is killed */
    block_sigchld(false);
    test->run();
    settle();
    fflush(NULL);
    exit(atomic_load(&failures) != 0 ? 1 : 0);
  }
  setpgid(pid, pid);
  int64_t start = now_ms(), end = start + slow(test->seconds * 1000);
  int64_t warn = end - 500;
  siginfo_t info = {0};
  /* The threads of a hung test are printed half a second before it is killed. */
  while (now_ms() < warn && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
    struct timespec slice = {0, 100000000};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigtimedwait(&set, NULL, &slice);
  }
  if (info.si_pid == 0)
    print_threads(pid);
  int status = await_child(pid, end);
  kill(-pid, SIGKILL); /* whatever the test left behind */
  bool passed = status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  printf("  %s  %s (%.2f s)", passed ? "ok  " : "FAIL", test->name, (double)(now_ms() - start) / 1000);
  if (status == -1)
    printf(": took longer than %d s", slow(test->seconds * 1000) / 1000);
  else if (WIFSIGNALED(status))
    printf(": ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  else if (WEXITSTATUS(status) > 1)
    printf(": exit status %d", WEXITSTATUS(status));
  printf("\n");
  fflush(stdout);
  return passed;
}

const char *helper_argument(void) { return argument_of_helper; }

void exit_and_tell(int code) {
  printf("exit at %lld\n", (long long)now_ms());
  exit(fflush(stdout) == 0 ? code : 125);
}

int64_t time_of_exit(const char *output) {
  long long at = 0;
  int length = -1;
  bool is_all = sscanf(output, "exit at %lld\n%n", &at, &length) == 1 && length == (int)strlen(output);
  return is_all ? now_ms() - at : -1;
}

static void exec_helper(const char *name, const char *argument, int output) {
  char self[512];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length < 0)
    _exit(126);
  self[length] = 0;
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  block_sigchld(false);
  execl(self, self, "--helper", name, argument, (char *)NULL);
  _exit(127);
}

/* Reads until the end of file or the deadline; what does not fit is dropped. */
static void read_all(int fd, char *output, size_t size, int64_t end) {
  size_t used = 0;
  for (;;) {
    struct pollfd ready = {fd, POLLIN, 0};
    int64_t left = end - now_ms();
    if (left <= 0 || poll(&ready, 1, (int)left) <= 0)
      break;
    char chunk[4096];
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got <= 0)
      break;
    for (ssize_t i = 0; i < got && output && used + 1 < size; i++)
      output[used++] = chunk[i];
  }
  if (output && size > 0)
    output[used] = 0;
}

int run_helper(const char *name, const char *argument, char *output, size_t output_size, int limit_ms) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return -1;
  block_sigchld(true);
  pid_t pid = fork();
  if (pid == 0)
    exec_helper(name, argument, ends[1]);
  close(ends[1]);
  int64_t end = now_ms() + slow(limit_ms);
  read_all(ends[0], output, output_size, end);
  close(ends[0]);
  int status = pid < 0 ? -1 : await_child(pid, end);
  block_sigchld(false);
  return status;
}

bool check_exit(const char *helper, const char *argument) {
  char output[1024];
  int status = run_helper(helper, argument, output, sizeof output, 20000);
  int64_t took = time_of_exit(output);
  bool fine = status != -1 && WIFEXITED(status) && CHECK_INT(WEXITSTATUS(status), ==, 0) && CHECK_INT(took, >=, 0) &&
              CHECK_INT(took, <=, slow(1000));
  if (!CHECK(fine))
    fprintf(stderr, "    %s %s: status %d, printed: %s\n", helper, argument, status, output);
  return fine;
}

/* --------------------------------------------------------------------------------------------------- main */

static int run_one_helper(int count, char **names) {
  argument_of_helper = count > 1 ? names[1] : "";
  for (struct test *test = first; test; test = test->next)
    if (test->is_helper && count > 0 && strcmp(test->name, names[0]) == 0) {
      test->run();
      return atomic_load(&failures) != 0;
    }
  fprintf(stderr, "no such helper\n");
  return 2;
}

static bool is_wanted(const struct test *test, int count, char **names, bool with_long) {
  if (test->is_helper)
    return false;
  if (count == 0)
    return with_long || !test->is_long;
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], test->name) == 0)
      return true;
  return false;
}

int main(int argc, char **argv) {
  bool with_long = false, only_list = false;
  argc--;
  argv++;
  for (; argc > 0 && strncmp(*argv, "--", 2) == 0; argc--, argv++) {
    if (strcmp(*argv, "--helper") == 0)
      return run_one_helper(argc - 1, argv + 1);
    with_long |= strcmp(*argv, "--long") == 0;
    only_list |= strcmp(*argv, "--list") == 0;
  }
  block_sigchld(true);
  int passed = 0, failed = 0;
  for (struct test *test = first; test; test = test->next) {
    if (!is_wanted(test, argc, argv, with_long || only_list))
      continue;
    if (only_list)
      printf("%s%s\n", test->name, test->is_long ? " (long)" : "");
    else if (run_test(test))
      passed++;
    else
      failed++;
  }
  if (only_list)
    return 0;
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0;
}
