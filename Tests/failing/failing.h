/* Calls that fail at will: the program's own functions stand before those of the C library and of libpq, and make the
 * n-th call of one of them fail. Only calls made by the library under test count, and by libpq where it says so. */
#ifndef FAILING_H
#define FAILING_H

#include <stdbool.h>

enum caller { FROM_LIBRARY = 1, FROM_LIBPQ = 2, FROM_BOTH = 3 };
/* Its failure is one that passes, by what the system promises: not all of its calls fail. */
enum { FAILS_ONCE = 4 };

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
/* No call fails any more. Returns the calls since failing_arm(). */
long failing_disarm(void);
/* Calls that have failed, in this process and in those that it forked. */
long failing_failed(void);

#endif
