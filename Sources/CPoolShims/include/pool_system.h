/* What Embedded Swift cannot reach by itself: system headers (there is no Glibc module), variadic and inline
 * functions, and types that Swift cannot lay out. Nothing here decides anything. */
#ifndef POOL_SYSTEM_H
#define POOL_SYSTEM_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static inline int pool_errno(void) { return errno; }
static inline void pool_set_errno(int value) { errno = value; }

/* Nanoseconds of the monotonic clock. */
int64_t pool_clock_now(void);
/* Nanoseconds of a processor that this thread has used. */
int64_t pool_clock_work(void);
/* Bytes that have arrived at a socket and are not read. */
int pool_pending(int fd);

/* futex(2): waits while *word == expected, until `deadline` (monotonic ns; negative = none). 0, or an errno value:
 * ETIMEDOUT, EINTR, EAGAIN. */
int pool_futex_wait(uint32_t *word, uint32_t expected, int64_t deadline);
void pool_futex_wake(uint32_t *word, int count);

static inline void pool_cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Starts a detached thread with all signals blocked, and a stack of 512 KiB; with one as large as the program's own
 * threads get by default if it `calls_host`. 0, or an errno value. */
int pool_thread_start(void *(*body)(void *), void *argument, bool calls_host);

/* The kernel's number of the calling thread. */
int pool_thread_id(void);

/* Holds off pthread_cancel() and returns the state to be restored. */
int pool_cancel_disable(void);
void pool_cancel_restore(int state);

/* The device and inode behind a descriptor: 0, or -1 with errno. Async-signal-safe. */
int pool_identity(int fd, uint64_t *device, uint64_t *inode);

/* Whether the descriptor is an open socket. */
bool pool_is_socket(int fd);

/* Drops up to 16 KiB of what a socket has received, without waiting: how much, 0 at the end of the stream, or -1 with
 * errno. */
ssize_t pool_drop_received(int fd);

/* dup3(null, fd, O_CLOEXEC). Async-signal-safe. */
void pool_replace(int fd, int null);

/* A close-on-exec descriptor of /dev/null, or where there is none (chroot) of an event nobody awaits; or -1 with errno.
 * Async-signal-safe. */
int pool_open_null(void);

/* A non-blocking, close-on-exec pipe: 0, or an errno value. */
int pool_pipe_create(int *source, int *signal);
void pool_pipe_signal(int signal);
void pool_pipe_clear(int source);

int pool_epoll_control(int set, int operation, int fd, uint32_t events, uint64_t token);
static inline uint64_t pool_epoll_token(const struct epoll_event *event) { return event->data.u64; }

/* POLLRDHUP, which the headers hide without _GNU_SOURCE. */
short pool_poll_end(void);

/* Random bits for jitter. */
uint64_t pool_random(void);

/* fcntl(F_DUPFD_CLOEXEC): a new descriptor, or -1 with errno. */
int pool_duplicate(int fd);

/* The address in digits (getnameinfo with NI_NUMERICHOST): 0, or an EAI_ code. */
int pool_numeric_address(const struct addrinfo *address, char *text, size_t size);

/* The 4 or 16 bytes of an address in digits, without the interface behind `%`; their number, or 0 if it is none. */
int pool_address_bytes(const char *text, size_t length, unsigned char bytes[16]);

#endif
