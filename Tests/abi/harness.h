/* A small test harness. Every test runs in a process of its own, so that a crash, a hang or a leftover pool spoils
 * nobody else's result; a check that fails prints where and what and lets the rest of the test go on.
 *
 *   program                 run all tests of the quick set
 *   program --long          run the long ones too
 *   program --list          print their names
 *   program NAME...         run these
 *   program --helper NAME   run a helper: what a test starts as a program of its own
 *
 * Environment: POOL_TEST_SCALE divides counts (valgrind: 20), POOL_TEST_SLOW multiplies the time
 * limits, POOL_TEST_SETTLE lets the library's background work end before a test's process does. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct test {
  const char *name;
  void (*run)(void);
  int seconds;
  bool is_long;
  bool is_helper;
  struct test *next;
};

void harness_add(struct test *test);

#define HARNESS_ENTRY(test_name, limit, only_long, helper)                                                   \
  static void test_name(void);                                                                               \
  static struct test test_name##_entry = {#test_name, test_name, limit, only_long, helper, NULL};            \
  __attribute__((constructor)) static void test_name##_add(void) { harness_add(&test_name##_entry); }        \
  static void test_name(void)

/* The name says what holds. A test may take 30 seconds, or as long as it says. */
#define TEST(name) HARNESS_ENTRY(name, 30, false, false)
#define TEST_LIMIT(name, seconds) HARNESS_ENTRY(name, seconds, false, false)
#define LONG_TEST(name, seconds) HARNESS_ENTRY(name, seconds, true, false)
#define HELPER(name) HARNESS_ENTRY(name, 60, false, true)

bool harness_check(bool holds, const char *file, int line, const char *what);
bool harness_relation(intmax_t left, const char *relation, intmax_t right, const char *file, int line,
                      const char *left_text, const char *right_text);
bool harness_check_text(const char *text, const char *part, bool wanted, const char *file, int line);

#define CHECK(condition) harness_check((condition), __FILE__, __LINE__, #condition)
/* CHECK_INT(pool_put(pool, conn), ==, 0): prints both values when it fails. */
#define CHECK_INT(left, relation, right)                                                                     \
  harness_relation((intmax_t)(left), #relation, (intmax_t)(right), __FILE__, __LINE__, #left, #right)
#define CHECK_HAS(text, part) harness_check_text((text), (part), true, __FILE__, __LINE__)
#define CHECK_LACKS(text, part) harness_check_text((text), (part), false, __FILE__, __LINE__)
/* Ends the test where going on makes no sense. */
#define REQUIRE(condition)   \
  do {                       \
    if (!CHECK(condition))   \
      return;                \
  } while (0)
#define REQUIRE_INT(left, relation, right)      \
  do {                                          \
    if (!CHECK_INT(left, relation, right))      \
      return;                                   \
  } while (0)

/* Waits for an event: looks again each millisecond until it holds, for `ms` at most (longer on a slow run). */
#define WAIT_FOR(ms, condition)                                                                              \
  do {                                                                                                       \
    int64_t wait_end = now_ms() + slow(ms);                                                                  \
    bool wait_held = (condition);                                                                            \
    for (; !wait_held && now_ms() < wait_end; wait_held = (condition))                                       \
      nap_ms(1);                                                                                             \
    harness_check(wait_held, __FILE__, __LINE__, "within " #ms " ms: " #condition);                          \
  } while (0)

/* Machine noise can only make a duration longer. So a bound holds if one of `attempts` measurements keeps it. The
 * measurement returns milliseconds, or a negative number for a failure of its own. */
void check_within(int64_t bound_ms, int attempts, int64_t (*measure)(void *), void *context, const char *file, int line);
#define CHECK_WITHIN(bound_ms, attempts, measure, context) \
  check_within(bound_ms, attempts, measure, context, __FILE__, __LINE__)

int64_t now_ms(void);
int64_t now_us(void);
void nap_ms(int ms);
/* Naps, and says by how much too long: for so long the machine had no time for anybody else either. */
int64_t nap_late_us(int ms);
int scaled(int count); /* count / POOL_TEST_SCALE, at least 1 */
int slow(int ms);      /* ms * POOL_TEST_SLOW */
bool is_slow_run(void);

/* Bounded windows in which something must not happen. The reason stands at the call. */
void observe_ms(int ms);

/* Runs `program --helper NAME argument` with its output in `output` (may be NULL). Exit status as of waitpid, -1
 * when it had to be killed after `limit_ms`. */
int run_helper(const char *name, const char *argument, char *output, size_t output_size, int limit_ms);
const char *helper_argument(void);
/* Ends a helper by exit(), after it has printed when that was. */
void exit_and_tell(int code);
/* Milliseconds from there to the end of a helper that has ended just now and printed this; -1: it printed anything else. */
int64_t time_of_exit(const char *output);
/* Runs a helper that ends so: with 0, within a second, and without another word. */
bool check_exit(const char *helper, const char *argument);

int open_descriptors(void);
int running_threads(void);
/* Of a program whose only thread is the test's: that one and the upkeep's, and the sanitizer's own if there is one. */
int resting_threads(void);
long resident_kib(void);

#endif
