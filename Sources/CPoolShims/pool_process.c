#define _GNU_SOURCE
#include "pool_process.h"

#include "pool_libpq.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STATIC_TLS __thread __attribute__((tls_model("initial-exec")))

uintptr_t pool_process_records[POOL_RECORD_LIMIT];
_Alignas(64) unsigned char pool_process_memory[POOL_PROCESS_SIZE];

static STATIC_TLS uint64_t callback_token;

uint64_t pool_callback_get(void) { return callback_token; }
void pool_callback_set(uint64_t token) { callback_token = token; }

static void (*at_fork[3])(void);
static STATIC_TLS bool is_forking;

static void prepare_fork(void) {
  if (is_forking) return;
  is_forking = true;
  at_fork[0]();
}

static void end_fork(int who) {
  if (!is_forking) return;
  is_forking = false;
  at_fork[who]();
}

static void end_fork_in_parent(void) { end_fork(1); }
static void end_fork_in_child(void) { end_fork(2); }

int pool_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  if (at_fork[0] == NULL) {
    at_fork[2] = child;
    at_fork[1] = parent;
    at_fork[0] = prepare;
  }
  return pthread_atfork(prepare_fork, end_fork_in_parent, end_fork_in_child);
}

__attribute__((constructor)) static void on_load(void) {
  if (pool_on_load) pool_on_load();
}

int pool_at_exit(void (*body)(void)) { return atexit(body) == 0 ? 0 : ENOMEM; }

void pool_tls_prepare(void) {
  /* int OPENSSL_init_ssl(uint64_t options, const OPENSSL_INIT_SETTINGS *): OpenSSL 1.1.0 and later. LOAD_CONFIG: as libpq
   * calls it a moment later. NO_ATEXIT: if nobody was here before us, OpenSSL does not tear itself down at exit below a
   * thread that is in the middle of a handshake or of SCRAM; the memory is the system's then. */
  enum { LOAD_CONFIG = 0x40, NO_ATEXIT = 0x80000 };
  int (*init)(uint64_t, const void *);
  void *symbol = dlsym(pool_libpq_scope(), "OPENSSL_init_ssl");
  if (symbol == NULL) return;
  *(void **)&init = symbol;
  (void)init(LOAD_CONFIG | NO_ATEXIT, NULL);
}

static jmp_buf before_cleanup;
static bool is_cleanup_ours;

static void leave_cleanup(void) {
  if (is_cleanup_ours) longjmp(before_cleanup, 1);
}

void pool_tls_keep(void) {
  /* int OPENSSL_atexit(void (*)(void)), void OPENSSL_cleanup(void): OpenSSL 1.1.0 and later. A cleanup notes that it has
   * begun, calls what was registered, the latest first, and frees everything then; one that was begun before does
   * nothing. So one is begun here, and left before it frees. It holds no lock there. */
  int (*at_cleanup)(void (*)(void));
  void (*clean_up)(void);
  void *symbols[] = {dlsym(pool_libpq_scope(), "OPENSSL_atexit"), dlsym(pool_libpq_scope(), "OPENSSL_cleanup")};
  if (symbols[0] == NULL || symbols[1] == NULL) return;
  *(void **)&at_cleanup = symbols[0];
  *(void **)&clean_up = symbols[1];
  if (at_cleanup(leave_cleanup) == 0) return;
  is_cleanup_ours = true;
  if (setjmp(before_cleanup) == 0) clean_up();
  is_cleanup_ours = false;
}

void pool_tls_thread_end(void) {
  /* void OPENSSL_thread_stop(void): OpenSSL 1.1.0 and later. */
  void (*stop)(void);
  *(void **)&stop = dlsym(pool_libpq_scope(), "OPENSSL_thread_stop");
  if (stop != NULL) stop();
}

void pool_sleep(int milliseconds) {
  struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  do {
    if (milliseconds < 0) span.tv_sec = 3600, span.tv_nsec = 0;
    (void)syscall(SYS_nanosleep, &span, NULL);
  } while (milliseconds < 0);
}

void pool_thread_exit(void) { pthread_exit(NULL); }

void pool_nap(void) {
  const struct timespec span = {0, 50000};
  (void)syscall(SYS_nanosleep, &span, NULL);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
/* Swift tells the thread sanitizer of each formal access, and means the whole struct behind a pointer when a method
 * changes one member of it. Members of ours are guarded by different locks, so these reports are dropped (the build
 * redirects them here); every load and store itself is still watched. */
__attribute__((visibility("hidden"))) void pool_sanitizer_formal_access(void *address, void *caller, void *tag);
void pool_sanitizer_formal_access(void *address, void *caller, void *tag) { (void)address, (void)caller, (void)tag; }
#endif
#endif
