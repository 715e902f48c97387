#include "rests.h"

#include <math.h>
#include <stdio.h>

enum { MOST_RESTS = 2000, LEAST_RESTS = 20, WARM_SECONDS = 600 };

struct line {
  double slope, error;
};

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

/* By least squares: by how much the values grow in a second, and the standard error of that. */
static struct line line_through(const double *seconds, const double *values, int count) {
  double mean_second = 0, mean_value = 0, spread = 0, common = 0, rest = 0;
  for (int i = 0; i < count; i++) {
    mean_second += seconds[i] / count;
    mean_value += values[i] / count;
  }
  for (int i = 0; i < count; i++) {
    spread += (seconds[i] - mean_second) * (seconds[i] - mean_second);
    common += (seconds[i] - mean_second) * (values[i] - mean_value);
  }
  if (spread <= 0 || count < 3)
    return (struct line){0, 0};
  double slope = common / spread;
  for (int i = 0; i < count; i++) {
    double off = values[i] - mean_value - slope * (seconds[i] - mean_second);
    rest += off * off;
  }
  return (struct line){slope, sqrt(rest / (count - 2) / spread)};
}

static struct growth growth_of(const double *values) {
  struct line line = line_through(rests.seconds + rests.first, values + rests.first, rests.count - rests.first);
  double percent = 100 * 3600 / values[rests.first];
  return (struct growth){percent * line.slope, percent * line.error};
}

struct growth rests_allocated_growth(void) { return growth_of(rests.allocated); }

struct growth rests_memory_growth(void) { return growth_of(rests.memory); }

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
    printf("  growth after the warm-up: %.2f (± %.2f) %%/h given out by malloc, %.2f (± %.2f) %%/h of memory\n",
           rests_allocated_growth().percent, rests_allocated_growth().error, rests_memory_growth().percent,
           rests_memory_growth().error);
}
