/* What memory was like at each rest of a long run, and how fast it grows. */
#ifndef RESTS_H
#define RESTS_H

#include "figures.h"

/* A rest so many seconds after the beginning. */
void rests_note(double second, const struct figures *figures);
void rests_print(void);

/* Whether there were enough rests after the warm-up to say how fast it grows. */
bool rests_tell(void);
/* After the warm-up, in percent an hour, with its standard error. */
struct growth {
  double percent, error;
};

/* What malloc has given out, which is exact; and the memory of the process, which has holes and goes up and down. */
struct growth rests_allocated_growth(void);
struct growth rests_memory_growth(void);

#endif
