/* Descriptors, threads and memory of this process; time; random numbers from a seed. */
#ifndef FIGURES_H
#define FIGURES_H

#include <stdbool.h>
#include <stdint.h>

struct figures {
  int descriptors;
  int threads;
  long memory_kib; /* of its own: without what is shared or a file's */
  long allocated;  /* bytes given out by malloc: exact where its caches of threads are off (tcache_count=0) */
};

/* What the allocator keeps for later is given back first. */
struct figures figures_now(void);
void figures_print(const char *when, const struct figures *figures);
int count_descriptors(void);
int count_threads(void);
long memory_kib(void);

/* The number behind `key` in a file of /proc; -1. */
long file_number(const char *path, const char *key);

int64_t now_us(void);
void nap_us(long us);
/* How long this thread was ready to run and others had the processors, since its start; 0 where nobody counts that. */
int64_t starved_us(void);

/* xorshift64*: the state is the caller's, never 0. */
uint32_t random_below(uint64_t *state, uint32_t bound);
bool one_in(uint64_t *state, uint32_t n);

#endif
