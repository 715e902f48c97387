#include "histogram.h"

static int bucket(uint64_t ns) {
  if (ns < STEPS) return (int)ns;
  int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
  int found = (shift + 1) * STEPS + (int)((ns >> shift) & (STEPS - 1));
  return found < BUCKETS ? found : BUCKETS - 1;
}

/* The middle of what falls into it. */
static double value_of(int bucket) {
  if (bucket < STEPS) return bucket;
  int shift = bucket / STEPS - 1;
  return ((double)(STEPS + bucket % STEPS) + 0.5) * (double)(1ull << shift);
}

void count_value(struct histogram *histogram, int64_t ns) {
  histogram->total++;
  histogram->counts[bucket(ns > 0 ? (uint64_t)ns : 0)]++;
}

void add_counts(struct histogram *histogram, const struct histogram *more) {
  histogram->total += more->total;
  for (int i = 0; i < BUCKETS; i++) histogram->counts[i] += more->counts[i];
}

double percentile(const struct histogram *histogram, double part) {
  uint64_t wanted = (uint64_t)(part * (double)histogram->total), seen = 0;
  for (int i = 0; i < BUCKETS; i++) {
    seen += histogram->counts[i];
    if (histogram->counts[i] > 0 && seen >= wanted) return value_of(i);
  }
  return 0;
}
