#define _GNU_SOURCE
#include "pool_system.h"

#include <arpa/inet.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>

static int64_t read_clock(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t pool_clock_now(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t pool_clock_work(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

int pool_futex_wait(uint32_t *word, uint32_t expected, int64_t deadline) {
  /* Never without a deadline: the kernel would restart such a wait after a handler with SA_RESTART. */
  if (deadline < 0) deadline = INT64_MAX;
  struct timespec until = {deadline / 1000000000, deadline % 1000000000};
  long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, &until, NULL,
                    FUTEX_BITSET_MATCH_ANY);
  return rc == 0 ? 0 : errno;
}

void pool_futex_wake(uint32_t *word, int count) {
  (void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

int pool_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 3); }

int pool_thread_start(void *(*body)(void *), void *argument, bool calls_host) {
  enum { OWN_STACK = 512 * 1024 };
  size_t stack = 0;
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  (void)pthread_attr_getstacksize(&attributes, &stack);
  if (!calls_host || stack < OWN_STACK) (void)pthread_attr_setstacksize(&attributes, OWN_STACK);

  sigset_t all, before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  error = pthread_create(&thread, &attributes, body, argument);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  (void)pthread_attr_destroy(&attributes);
  return error;
}

int pool_thread_id(void) { return (int)syscall(SYS_gettid); }

int pool_cancel_disable(void) {
  int state = PTHREAD_CANCEL_ENABLE;
  (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return state;
}

void pool_cancel_restore(int state) { (void)pthread_setcancelstate(state, NULL); }

int pool_identity(int fd, uint64_t *device, uint64_t *inode) {
  struct stat about;
  if (fstat(fd, &about) != 0) return -1;
  *device = about.st_dev;
  *inode = about.st_ino;
  return 0;
}

bool pool_is_socket(int fd) {
  struct stat about;
  return fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

ssize_t pool_drop_received(int fd) {
  char scratch[16384];
  return recv(fd, scratch, sizeof scratch, MSG_DONTWAIT);
}

void pool_replace(int fd, int null) {
  /* EBUSY: in a race with an open() in another thread, of which a forked child has none. */
  for (int tries = 0; tries < 1000; tries++) {
    if (dup3(null, fd, O_CLOEXEC) >= 0 || (errno != EINTR && errno != EBUSY)) return;
  }
  (void)close(fd);
}

int pool_pending(int fd) {
  int count = 0;
  return ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? count : 0;
}

int pool_open_null(void) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  return null >= 0 ? null : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int pool_pipe_create(int *source, int *signal) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno;
  *source = ends[0];
  *signal = ends[1];
  return 0;
}

/* By syscall(): write(), read() and sigtimedwait() are cancellation points. A full pipe is a wake-up already pending. A
 * host may have closed the reading end alone: the SIGPIPE of that is ours, one that was pending before is not. */
void pool_pipe_signal(int signal) {
  enum { KERNEL_SET_SIZE = 8 };
  const struct timespec no_time = {0, 0};
  sigset_t broken, before, pending;
  (void)sigemptyset(&broken);
  (void)sigaddset(&broken, SIGPIPE);
  (void)pthread_sigmask(SIG_BLOCK, &broken, &before);
  bool was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
  if (syscall(SYS_write, signal, "", 1) < 0 && errno == EPIPE && !was_pending)
    (void)syscall(SYS_rt_sigtimedwait, &broken, NULL, &no_time, KERNEL_SET_SIZE);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pool_pipe_clear(int source) {
  char scratch[64];
  while (syscall(SYS_read, source, scratch, sizeof scratch) == (long)sizeof scratch) {
  }
}

int pool_epoll_control(int set, int operation, int fd, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return epoll_ctl(set, operation, fd, &event);
}

uint64_t pool_random(void) {
  uint64_t bits = 0;
  if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != sizeof bits) bits = (uint64_t)pool_clock_now();
  return bits;
}

int pool_numeric_address(const struct addrinfo *address, char *text, size_t size) {
  return getnameinfo(address->ai_addr, address->ai_addrlen, text, (socklen_t)size, NULL, 0, NI_NUMERICHOST);
}

int pool_address_bytes(const char *text, size_t length, unsigned char bytes[16]) {
  char digits[INET6_ADDRSTRLEN];
  const char *interface = memchr(text, '%', length);
  if (interface != NULL) length = (size_t)(interface - text);
  if (length >= sizeof digits) return 0;
  memcpy(digits, text, length);
  digits[length] = '\0';
  if (inet_pton(AF_INET, digits, bytes) == 1) return 4;
  return inet_pton(AF_INET6, digits, bytes) == 1 ? 16 : 0;
}

short pool_poll_end(void) { return POLLRDHUP; }
