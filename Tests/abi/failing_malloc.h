/* The allocator of a test program that fails at will: it stands before the C library's for everybody. For one source
 * file of a program. */
#ifndef FAILING_MALLOC_H
#define FAILING_MALLOC_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static atomic_long countdown; /* > 0: so many until one fails; 0: none fails */
static atomic_bool all_fail;
static atomic_long refused;
static atomic_long live;

static bool refuse(void) {
  bool now = atomic_load(&all_fail);
  if (!now && atomic_load(&countdown) > 0)
    now = atomic_fetch_sub(&countdown, 1) == 1;
  if (now) {
    atomic_fetch_add(&refused, 1);
    errno = ENOMEM;
  }
  return now;
}

static void *counted(void *memory) {
  if (memory)
    atomic_fetch_add(&live, 1);
  return memory;
}

void *malloc(size_t size) { return refuse() ? NULL : counted(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return refuse() ? NULL : counted(__libc_calloc(count, size)); }

void *realloc(void *old, size_t size) {
  if (refuse())
    return NULL;
  void *memory = __libc_realloc(old, size);
  return old ? memory : counted(memory);
}

void *memalign(size_t alignment, size_t size) { return refuse() ? NULL : counted(__libc_memalign(alignment, size)); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
  void *taken = memalign(alignment, size);
  if (!taken)
    return ENOMEM;
  *memory = taken;
  return 0;
}

void free(void *memory) {
  if (memory)
    atomic_fetch_sub(&live, 1);
  __libc_free(memory);
}

#endif
