/* Counts of durations in nanoseconds, each within 3 %: 32 steps for each power of two. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { STEP_BITS = 5, STEPS = 1 << STEP_BITS, BUCKETS = 60 * STEPS };

struct histogram {
  uint64_t total;
  uint32_t counts[BUCKETS];
};

void count_value(struct histogram *histogram, int64_t ns);
void add_counts(struct histogram *histogram, const struct histogram *more);

/* The smallest duration that `part` of all do not exceed; 0 of none. */
double percentile(const struct histogram *histogram, double part);

#endif
