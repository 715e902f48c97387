/* What disturbs the workers from inside the process: actions on the pools, and forks. */
#ifndef DISTURB_H
#define DISTURB_H

#include "jobs.h"

/* As many pools and waiters at once as there will ever be, on a server that is well: what the library keeps of them for
 * its next ones (some 9 KiB for each pool that existed beside the others) it has from here on. */
void reach_peaks(void);
/* One action on a random pool: reconnect, resize, pause, drain, a look at the statistics, a short-lived pool. */
void disturb_pools(struct worker *worker);
/* One child that works with the pools and ends in one of the ways in which programs end; sometimes with a child of its
 * own. Returns when it has ended. */
void disturb_by_fork(struct worker *worker);

#endif
