/* The memory of the process-wide state, the thread's mark of the callback it runs, and what runs at fork and exit.
 * Static and zero-filled: complete before any code runs, so that nothing is initialised lazily. */
#ifndef POOL_PROCESS_H
#define POOL_PROCESS_H

#include <stdint.h>

#define POOL_PROCESS_SIZE 2048

extern unsigned char pool_process_memory[POOL_PROCESS_SIZE];

/* From the index in a token to the address of its record: one step. The system gives it memory as it is used. */
#define POOL_RECORD_LIMIT (1 << 17)

extern uintptr_t pool_process_records[POOL_RECORD_LIMIT];

static inline uintptr_t *pool_records(void) { return pool_process_records; }

static inline void *pool_process(void) { return pool_process_memory; }

/* The token of the pool whose callback runs in this thread, 0 = none. */
uint64_t pool_callback_get(void);
void pool_callback_set(uint64_t token);

/* pthread_atfork(), of the same functions each time: registered twice, each is called once for a fork, prepare the first
 * time, so as late as the last registration, and the others too. 0, or an errno value. At load first, by one thread. */
int pool_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
/* atexit(): 0, or an errno value. */
int pool_at_exit(void (*body)(void));

/* Of the Swift code, for the loader; the tests of some modules are without it. */
void pool_on_load(void) __attribute__((weak));

/* Lets OpenSSL, if libpq brought it along, initialise itself now, without an exit handler. Where the host was quicker it
 * has one, and ours, registered after it, runs before it. Nothing happens when there is no OpenSSL. */
void pool_tls_prepare(void);

/* At exit, while a thread is in OpenSSL and will not leave soon: OpenSSL's own exit handler, of the host's making, will free
 * nothing. */
void pool_tls_keep(void);

/* What OpenSSL keeps for the calling thread, which is about to end, is freed now. OpenSSL would do it by itself at the end of
 * the thread, under a lock of its own that a child forked at that moment would find locked for ever. */
void pool_tls_thread_end(void);

/* Sleeps `milliseconds`, or for ever if negative. Not a cancellation point. */
void pool_sleep(int milliseconds);

/* Ends the calling thread; with the last thread of a process the process ends. */
void pool_thread_exit(void) __attribute__((noreturn));

/* Lets other threads run, for about 50 us. */
void pool_nap(void);

#endif
