/* The pools while nobody uses them: full of new connections and idle, no thread at work, no descriptor more. */
#ifndef QUIET_H
#define QUIET_H

#include "figures.h"

/* Renews all connections and waits for such a moment, in which the figures are taken. `workers`: threads of the oracle
 * beside the main one. Without `baseline` any number of descriptors will do. False when there was no such moment. */
bool quiet_await(int workers, const struct figures *baseline, struct figures *figures);
/* What the last one found at its end, and what the server had then. */
void quiet_tell(long sessions);
/* How often one moment took more than one round, and how late the machine was at worst. */
void quiet_print(void);

#endif
