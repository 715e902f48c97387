/* The thread's error slot: the code and message of its last failure.
 *
 * Thread-local storage proper is one pointer in the static TLS block (initial-exec): storage that the loader hands
 * out lazily would abort the process when memory runs out. The slot itself is taken at the thread's first failure by
 * a checked malloc and freed when the thread ends; without memory one shared, constant slot says POOL_ENOMEM. */
#ifndef POOL_ERRORS_H
#define POOL_ERRORS_H

/* With a place in the queue, of 104 bytes in segments that may be half empty, a thread that waits takes at most 1 KiB. */
#define POOL_MESSAGE_SIZE 800

struct pool_error_slot {
  int code;
  char message[POOL_MESSAGE_SIZE];
};

/* The calling thread's slot to write to; NULL when there is no memory for it (the thread then reads POOL_ENOMEM). */
struct pool_error_slot *pool_error_slot_take(void);

/* Where `message` begins: Swift does not know the place of an array in a struct. */
static inline long pool_error_message_offset(void) { return (long)__builtin_offsetof(struct pool_error_slot, message); }

/* The system's words for an errno value, into `buffer`; thread-safe. */
void pool_error_text(int error, char *buffer, unsigned long size);

/* The calling thread's slot to read; never NULL. */
const struct pool_error_slot *pool_error_slot_read(void);

#endif
