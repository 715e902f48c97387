#ifndef CLOCKS_H
#define CLOCKS_H

#include <stdint.h>
#include <time.h>

static inline int64_t read_clock(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

/* Of this thread: what other programs do does not count. */
static inline int64_t processor_ns(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

#endif
