#include "failing.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* X(function, callers): PQ... only from the library, by its table. poll() and epoll_wait() fail with EINTR. */
#define ALL_FUNCTIONS(X)                                                                                            \
  X(malloc, FROM_BOTH) X(posix_memalign, FROM_LIBRARY | NEVER_CALLED) X(calloc, FROM_BOTH) X(realloc, FROM_BOTH)    \
  X(strdup, FROM_BOTH) X(pthread_create, FROM_LIBRARY) X(register_atfork, FROM_LIBRARY | AT_LOAD)                   \
  X(cxa_atexit, FROM_LIBRARY) X(socket, FROM_LIBPQ) X(connect, FROM_LIBPQ) X(getsockopt, FROM_LIBPQ)                \
  X(setsockopt, FROM_LIBPQ) X(send, FROM_LIBPQ) X(recv, FROM_BOTH) X(poll, FROM_BOTH | FAILS_ONCE)                  \
  X(fcntl, FROM_BOTH) X(dup3, FROM_LIBRARY | FAILS_ONCE) X(pipe2, FROM_LIBRARY) X(open, FROM_LIBRARY)               \
  X(fstat, FROM_LIBRARY) X(getrandom, FROM_LIBRARY) X(epoll_create1, FROM_LIBRARY) X(epoll_ctl, FROM_LIBRARY)       \
  X(epoll_wait, FROM_LIBRARY | FAILS_ONCE) X(getaddrinfo, FROM_BOTH) X(getnameinfo, FROM_BOTH)                      \
  X(PQconnectStartParams, FROM_LIBRARY) X(PQconnectPoll, FROM_LIBRARY) X(PQconninfo, FROM_LIBRARY)                  \
  X(PQconninfoParse, FROM_LIBRARY) X(PQsetnonblocking, FROM_LIBRARY) X(PQsendQuery, FROM_LIBRARY)                   \
  X(PQflush, FROM_LIBRARY) X(PQconsumeInput, FROM_LIBRARY) X(PQgetResult, FROM_LIBRARY)                             \
  X(PQresultStatus, FROM_LIBRARY) X(PQstatus, FROM_LIBRARY) X(PQtransactionStatus, FROM_LIBRARY)                    \
  X(PQsocket, FROM_LIBRARY) X(PQbackendPID, FROM_LIBRARY) X(PQparameterStatus, FROM_LIBRARY)                        \
  X(PQisBusy, FROM_LIBRARY) X(PQregisterEventProc, FROM_LIBRARY) X(PQhost, FROM_LIBRARY)                            \
  X(PQhostaddr, FROM_LIBRARY) X(PQport, FROM_LIBRARY) X(PQnotifies, FROM_LIBRARY)                                   \
  X(pthread_setspecific, FROM_LIBRARY | MAY_LOSE) X(pthread_key_create, FROM_LIBRARY | MAY_LOSE | AT_LOAD)          \
  X(pthread_attr_init, FROM_LIBRARY) X(getpwuid_r, FROM_BOTH)

#define NUMBER(name, callers) AT_##name,
enum { ALL_FUNCTIONS(NUMBER) COUNT };
#define ENTRY(name, callers) {#name, callers},
const struct failing failing_functions[] = {ALL_FUNCTIONS(ENTRY){NULL, 0}};

/* ------------------------------------------------------------------------------------------------------ counting */

struct range {
  uintptr_t start, end;
};
static struct range library, libpq;

static atomic_int armed = -1;
static atomic_long calls, nth;
static atomic_long unshared;
static atomic_long *failed = &unshared; /* shared with a forked child, whose calls fail too */
static atomic_bool after;
static atomic_long live;

static int find_range(struct dl_phdr_info *info, size_t size, void *nothing) {
  (void)size, (void)nothing;
  struct range *range = strstr(info->dlpi_name, "libdbpool.so") ? &library
                        : strstr(info->dlpi_name, "libpq.so")   ? &libpq
                                                                : NULL;
  for (int i = 0; range && i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
      range->start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
      range->end = range->start + info->dlpi_phdr[i].p_memsz;
    }
  return 0;
}

bool failing_prepare(void) {
  dl_iterate_phdr(find_range, NULL);
  return library.end != 0 && libpq.end != 0;
}

void failing_arm(int function, long n, bool and_after) {
  atomic_long *shared = mmap(NULL, sizeof *failed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    abort();
  atomic_init(shared, atomic_load(failed));
  failed = shared;
  atomic_store(&calls, 0);
  atomic_store(&nth, n);
  atomic_store(&after, and_after);
  atomic_store(&armed, function);
}

long failing_disarm(void) {
  atomic_store(&armed, -1);
  return atomic_load(&calls);
}

void failing_arm_at_load(int function, long n) {
  char text[64];
  snprintf(text, sizeof text, "%d %ld", function, n);
  if (setenv(AT_LOAD_VARIABLE, text, 1) != 0)
    abort();
}

/* The functions that fail at load call it: no part of the program runs before. */
static void arm_as_told_at_load(void) {
  static bool told;
  const char *text = told ? NULL : getenv(AT_LOAD_VARIABLE);
  int function;
  long n;
  told = true;
  if (text && sscanf(text, "%d %ld", &function, &n) == 2 && failing_prepare())
    failing_arm(function, n, false);
}

long failing_failed(void) { return atomic_load(failed); }
long failing_live(void) { return atomic_load(&live); }

static bool is_in(const struct range *range, const void *address) {
  return (uintptr_t)address >= range->start && (uintptr_t)address < range->end;
}

static bool is_refused(int function, const void *caller) {
  if (atomic_load(&armed) != function)
    return false;
  int callers = failing_functions[function].callers;
  if (!(callers & FROM_LIBRARY && is_in(&library, caller)) && !(callers & FROM_LIBPQ && is_in(&libpq, caller)))
    return false;
  long number = atomic_fetch_add(&calls, 1) + 1, wanted = atomic_load(&nth);
  if (number != wanted && !(number > wanted && atomic_load(&after)))
    return false;
  atomic_fetch_add(failed, 1);
  return true;
}

/* The function that ours stands before, looked up once. */
static void *real(const char *name) {
  void *symbol = dlsym(RTLD_NEXT, name);
  if (!symbol)
    abort();
  return symbol;
}

#define REFUSED(name) is_refused(AT_##name, __builtin_return_address(0))
#define FAIL(error, value) return errno = (error), (value)
/* STANDS_BEFORE(int, socket, "socket", (int a, int b), (a, b), EMFILE, -1) */
#define STANDS_BEFORE(type, key, symbol, function, parameters, arguments, error, value)   \
  type function parameters {                                                             \
    static type(*_Atomic next) parameters;                                               \
    if (REFUSED(key))                                                                    \
      FAIL(error, value);                                                                \
    type(*known) parameters = next;                                                      \
    if (!known) {                                                                        \
      *(void **)&known = real(symbol);                                                   \
      next = known;                                                                      \
    }                                                                                    \
    return known arguments;                                                              \
  }
#define BEFORE(type, name, parameters, arguments, error, value) \
  STANDS_BEFORE(type, name, #name, name, parameters, arguments, error, value)

/* ------------------------------------------------------------------------------------------------ the C library's */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static void *counted(void *memory) {
  if (memory)
    atomic_fetch_add(&live, 1);
  return memory;
}

void *malloc(size_t size) {
  if (REFUSED(malloc))
    FAIL(ENOMEM, NULL);
  return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
  if (REFUSED(calloc))
    FAIL(ENOMEM, NULL);
  return counted(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size) {
  if (REFUSED(realloc))
    FAIL(ENOMEM, NULL);
  void *memory = __libc_realloc(old, size);
  return old ? memory : counted(memory);
}

char *strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = REFUSED(strdup) ? NULL : counted(__libc_malloc(size));
  if (!copy)
    FAIL(ENOMEM, NULL);
  return memcpy(copy, text, size);
}

/* Swift's way to memory: the library is to have none of it, as it is not asked whether that failed. */
int posix_memalign(void **memory, size_t alignment, size_t size) {
  void *taken = REFUSED(posix_memalign) ? NULL : counted(__libc_memalign(alignment, size));
  if (!taken)
    return ENOMEM;
  *memory = taken;
  return 0;
}

void *memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

void free(void *memory) {
  if (memory)
    atomic_fetch_sub(&live, 1);
  __libc_free(memory);
}

int pthread_key_create(pthread_key_t *key, void (*drop)(void *)) {
  static int (*next)(pthread_key_t *, void (*)(void *));
  arm_as_told_at_load();
  if (REFUSED(pthread_key_create))
    return EAGAIN;
  if (!next)
    *(void **)&next = real("pthread_key_create");
  return next(key, drop);
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*body)(void *),
                   void *restrict argument) {
  static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (REFUSED(pthread_create))
    return EAGAIN;
  if (!next)
    *(void **)&next = real("pthread_create");
  return next(thread, attributes, body, argument);
}

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *module);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *module) {
  static int (*next)(void (*)(void), void (*)(void), void (*)(void), void *);
  arm_as_told_at_load();
  /* Not by the caller, which is the loader's where the calls on the way are jumps. */
  if (is_refused(AT_register_atfork, *(void **)&prepare))
    return ENOMEM;
  if (!next)
    *(void **)&next = real("__register_atfork");
  return next(prepare, parent, child, module);
}

int __cxa_atexit(void (*body)(void *), void *argument, void *module);
STANDS_BEFORE(int, cxa_atexit, "__cxa_atexit", __cxa_atexit, (void (*body)(void *), void *argument, void *module),
              (body, argument, module), ENOMEM, -1)

BEFORE(int, pthread_attr_init, (pthread_attr_t * attributes), (attributes), ENOMEM, ENOMEM)
BEFORE(int, getpwuid_r, (uid_t user, struct passwd *restrict entry, char *restrict buffer, size_t size,
       struct passwd **restrict found), (user, entry, buffer, size, found), EIO, EIO)
BEFORE(int, pthread_setspecific, (pthread_key_t key, const void *value), (key, value), ENOMEM, ENOMEM)
BEFORE(int, socket, (int family, int type, int protocol), (family, type, protocol), EMFILE, -1)
BEFORE(int, connect, (int fd, __CONST_SOCKADDR_ARG address, socklen_t length), (fd, address, length), ECONNREFUSED, -1)
BEFORE(int, getsockopt, (int fd, int level, int option, void *restrict value, socklen_t *restrict length),
       (fd, level, option, value, length), ENOBUFS, -1)
BEFORE(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t length),
       (fd, level, option, value, length), ENOBUFS, -1)
/* The peer is gone, for reading too: libpq expects to read why. */
ssize_t send(int fd, const void *bytes, size_t count, int flags) {
  static ssize_t (*next)(int, const void *, size_t, int);
  if (REFUSED(send)) {
    (void)shutdown(fd, SHUT_RDWR);
    FAIL(EPIPE, -1);
  }
  if (!next)
    *(void **)&next = real("send");
  return next(fd, bytes, count, flags);
}

BEFORE(ssize_t, recv, (int fd, void *bytes, size_t count, int flags), (fd, bytes, count, flags), ECONNRESET, -1)
BEFORE(int, poll, (struct pollfd *entries, nfds_t count, int timeout), (entries, count, timeout), EINTR, -1)
BEFORE(int, dup3, (int old, int new, int flags), (old, new, flags), EBUSY, -1)
BEFORE(int, pipe2, (int ends[2], int flags), (ends, flags), EMFILE, -1)
BEFORE(int, fstat, (int fd, struct stat *restrict about), (fd, about), EOVERFLOW, -1)
BEFORE(ssize_t, getrandom, (void *bytes, size_t count, unsigned flags), (bytes, count, flags), EAGAIN, -1)
BEFORE(int, epoll_create1, (int flags), (flags), EMFILE, -1)
BEFORE(int, epoll_ctl, (int set, int operation, int fd, struct epoll_event *event), (set, operation, fd, event), ENOSPC,
       -1)
BEFORE(int, epoll_wait, (int set, struct epoll_event *events, int most, int timeout), (set, events, most, timeout),
       EINTR, -1)
BEFORE(int, getaddrinfo,
       (const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
        struct addrinfo **restrict result),
       (node, service, hints, result), EAGAIN, EAI_AGAIN)
BEFORE(int, getnameinfo,
       (const struct sockaddr *restrict address, socklen_t length, char *restrict host, socklen_t host_size,
        char *restrict service, socklen_t service_size, int flags),
       (address, length, host, host_size, service, service_size, flags), EAGAIN, EAI_AGAIN)

/* One argument at most, of the width of a pointer. */
int fcntl(int fd, int command, ...) {
  static int (*next)(int, int, ...);
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (REFUSED(fcntl))
    FAIL(EMFILE, -1);
  if (!next)
    *(void **)&next = real("fcntl");
  return next(fd, command, argument);
}

int open(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  va_list list;
  va_start(list, flags);
  mode_t mode = va_arg(list, mode_t);
  va_end(list);
  if (REFUSED(open))
    FAIL(EMFILE, -1);
  if (!next)
    *(void **)&next = real("open");
  return next(path, flags, mode);
}

/* --------------------------------------------------------------------------------------------------------- libpq's */

#define OF_CONNECTION(type, name, value) BEFORE(type, name, (PGconn * conn), (conn), EIO, value)
#define OF_ANY_CONNECTION(type, name, value) BEFORE(type, name, (const PGconn *conn), (conn), EIO, value)

BEFORE(PGconn *, PQconnectStartParams, (const char *const *keywords, const char *const *values, int expand),
       (keywords, values, expand), ENOMEM, NULL)
BEFORE(PQconninfoOption *, PQconninfoParse, (const char *conninfo, char **message), (conninfo, message), ENOMEM, NULL)
OF_CONNECTION(PostgresPollingStatusType, PQconnectPoll, PGRES_POLLING_FAILED)
OF_CONNECTION(PQconninfoOption *, PQconninfo, NULL)
BEFORE(int, PQsetnonblocking, (PGconn * conn, int value), (conn, value), EIO, -1)
BEFORE(int, PQsendQuery, (PGconn * conn, const char *query), (conn, query), EIO, 0)
OF_CONNECTION(int, PQflush, -1)
OF_CONNECTION(int, PQconsumeInput, 0)
OF_CONNECTION(int, PQisBusy, 1)
OF_CONNECTION(PGresult *, PQgetResult, NULL)
BEFORE(ExecStatusType, PQresultStatus, (const PGresult *result), (result), EIO, PGRES_FATAL_ERROR)
OF_ANY_CONNECTION(ConnStatusType, PQstatus, CONNECTION_BAD)
OF_ANY_CONNECTION(PGTransactionStatusType, PQtransactionStatus, PQTRANS_UNKNOWN)
OF_ANY_CONNECTION(int, PQsocket, -1)
OF_ANY_CONNECTION(int, PQbackendPID, 0)
BEFORE(const char *, PQparameterStatus, (const PGconn *conn, const char *name), (conn, name), EIO, NULL)
OF_ANY_CONNECTION(char *, PQhost, NULL)
OF_ANY_CONNECTION(char *, PQhostaddr, NULL)
OF_ANY_CONNECTION(char *, PQport, NULL)
OF_CONNECTION(PGnotify *, PQnotifies, NULL)
typedef int (*event_procedure)(int, void *, void *);
int PQregisterEventProc(PGconn *conn, event_procedure procedure, const char *name, void *context);
BEFORE(int, PQregisterEventProc, (PGconn * conn, event_procedure procedure, const char *name, void *context),
       (conn, procedure, name, context), ENOMEM, 0)
