/* Calls that fail at will: the program's own functions stand before those of the C library and of libpq, and make the
 * n-th call of one of them fail. Only calls made by the library under test count, and by libpq where it says so. */
#ifndef FAILING_H
#define FAILING_H

#include <stdbool.h>

enum caller { FROM_LIBRARY = 1, FROM_LIBPQ = 2, FROM_BOTH = 3 };
enum {
  FAILS_ONCE = 4,   /* its failure is one that passes, by what the system promises: not all of its calls fail */
  NEVER_CALLED = 8, /* and to be called by neither */
  MAY_LOSE = 16,    /* a failure leaves the slot of a thread's errors behind when the thread ends, at most */
  AT_LOAD = 32,     /* called before main(): fails in a program of its own; `and_after`: also in the life there */
};
#define AT_LOAD_VARIABLE "FAILING_AT_LOAD"

/* The functions that can fail; the last has no name. */
struct failing {
  const char *name;
  int callers;
};
extern const struct failing failing_functions[];

/* Learns where the library and libpq lie. False when one is not loaded. */
bool failing_prepare(void);
/* The n-th call of this function from now on fails, and with `and_after` all after it. */
void failing_arm(int function, long n, bool and_after);
/* The same for a function called at load, in a program that this process becomes or starts. */
void failing_arm_at_load(int function, long n);
/* No call fails any more. Returns the calls since failing_arm(). */
long failing_disarm(void);
/* Calls that have failed, in this process and in those that it forked. */
long failing_failed(void);
/* Blocks of memory in use, by whomever. */
long failing_live(void);

#endif
