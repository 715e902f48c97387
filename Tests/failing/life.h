/* The life of a pool, during which a call fails. */
#ifndef LIFE_H
#define LIFE_H

#include <stdbool.h>
#include <stdint.h>

/* Whom the native pools connect as. */
#define LIFE_ROLE "failing"

extern const char *const life_names[];

/* False for functions that a life has no use for. */
bool life_uses(const char *life, const char *function);
/* Lives it in this process, with the n-th call failing, twice if it came, and looks whether all is well afterwards: what is not, it
 * prints. */
bool life_live(const char *life, int function, long n, bool and_after);
/* The n-th call came. */
bool life_reached(void);

#endif
