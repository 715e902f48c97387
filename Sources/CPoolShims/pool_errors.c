#define _GNU_SOURCE
#include "pool_errors.h"

#include <dbpool.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define STATIC_TLS __thread __attribute__((tls_model("initial-exec")))

/* Written by the constructor alone: as constants their zeroes would be two kilobytes of the file. */
static struct pool_error_slot no_error, no_memory;

static STATIC_TLS struct pool_error_slot *own;
static STATIC_TLS int starved;

static pthread_key_t key;
static int have_key;

/* At the end of a thread. A later destructor of the host's may call the library again: it gets a new slot. */
static void drop(void *slot) {
  own = NULL;
  free(slot);
}

/* A constructor, not pthread_once: a child forked in the middle of a once would wait for ever. */
__attribute__((constructor)) static void make_slots(void) {
  have_key = pthread_key_create(&key, drop) == 0;
  no_memory.code = POOL_ENOMEM;
  strcpy(no_memory.message, "out of memory (also for the text of this error)");
}

struct pool_error_slot *pool_error_slot_take(void) {
  if (own == NULL) {
    own = malloc(sizeof *own);
    starved = own == NULL;
    if (own == NULL) return NULL;
    own->code = POOL_OK;
    own->message[0] = '\0';
    /* Without a key the slot of an ended thread is leaked: better than a failure to say what failed. */
    if (have_key) (void)pthread_setspecific(key, own);
  }
  return own;
}

const struct pool_error_slot *pool_error_slot_read(void) {
  if (own != NULL) return own;
  return starved ? &no_memory : &no_error;
}

void pool_error_text(int error, char *buffer, unsigned long size) {
  char scratch[128];
  const char *text = strerror_r(error, scratch, sizeof scratch);
  if (size == 0) return;
  strncpy(buffer, text, size - 1);
  buffer[size - 1] = '\0';
}
