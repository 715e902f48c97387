#include "rests.h"

#include <stdio.h>

enum { MOST_RESTS = 2000, LEAST_RESTS = 20, WARM_SECONDS = 600 };

static struct {
  double seconds[MOST_RESTS], allocated[MOST_RESTS], memory[MOST_RESTS];
  int count;
  int first; /* after the warm-up */
} rests;

void rests_note(double second, const struct figures *figures) {
  if (rests.count == MOST_RESTS)
    return;
  rests.seconds[rests.count] = second;
  rests.allocated[rests.count] = (double)figures->allocated / 1024;
  rests.memory[rests.count] = (double)figures->memory_kib;
  rests.count++;
  if (second < WARM_SECONDS)
    rests.first = rests.count;
}

bool rests_tell(void) { return rests.count - rests.first >= LEAST_RESTS; }

static double growth_of(const double *values) {
  double slope = slope_of(rests.seconds + rests.first, values + rests.first, rests.count - rests.first);
  return 100 * 3600 * slope / values[rests.first];
}

double rests_allocated_growth(void) { return growth_of(rests.allocated); }

double rests_memory_growth(void) { return growth_of(rests.memory); }

/* Ten of them, from the first to the last. */
static void print_course(const char *what, const double *values) {
  printf("  %s, KiB at rest:", what);
  for (int i = 0, shown = rests.count < 10 ? rests.count : 10; i < shown; i++)
    printf(" %.1f", values[shown == 1 ? 0 : (long)i * (rests.count - 1) / (shown - 1)]);
  printf("\n");
}

void rests_print(void) {
  printf("  %d rests, %d of them after %d s of warm-up\n", rests.count, rests.count - rests.first, WARM_SECONDS);
  print_course("given out by malloc", rests.allocated);
  print_course("memory", rests.memory);
  if (rests_tell())
    printf("  growth after the warm-up: %.2f %%/h given out by malloc, %.2f %%/h of memory\n", rests_allocated_growth(),
           rests_memory_growth());
}
