/* Floors of the hot path, without any connection: two compare-and-swaps, and two uncontended pairs of
 * pthread_mutex_lock and _unlock, which is what a get and a put under one lock take at least. */
#include "contestant.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

static void *open_nothing(int size) {
  (void)size;
  return NULL;
}

static void close_nothing(void *pool) { (void)pool; }

static void *get_nothing(void *pool) { return pool; }

static void put_nothing(void *pool, void *loan) {
  (void)pool;
  (void)loan;
}

static _Atomic uint64_t top;

static void swap(uint64_t mask) {
  uint64_t seen = atomic_load_explicit(&top, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&top, &seen, (seen + 1) ^ mask, memory_order_acq_rel,
                                                memory_order_relaxed)) continue;
}

__attribute__((noinline)) static void turns_cas(void *pool, long count) {
  (void)pool;
  for (long i = 0; i < count; i++) {
    swap(1u << 16);
    swap(1u << 17);
  }
}

static pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

__attribute__((noinline)) static void turns_mutexes(void *pool, long count) {
  (void)pool;
  for (long i = 0; i < count; i++)
    for (int k = 0; k < 2; k++) {
      pthread_mutex_lock(&mutexes[k]);
      pthread_mutex_unlock(&mutexes[k]);
    }
}

const struct contestant contestant_cas = {"two compare-and-swaps", open_nothing, get_nothing,
                                          put_nothing, close_nothing, turns_cas};
const struct contestant contestant_mutexes = {"two mutex pairs", open_nothing, get_nothing,
                                              put_nothing, close_nothing, turns_mutexes};
