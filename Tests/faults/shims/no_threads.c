/* A system that has no threads left: pthread_create() fails with EAGAIN while it is told to. Preloaded. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int refusing, refused;

void faults_refuse_threads(int wanted) { atomic_store(&refusing, wanted); }
int faults_refused_threads(void) { return atomic_load(&refused); }

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (atomic_load(&refusing)) {
    atomic_fetch_add(&refused, 1);
    return EAGAIN;
  }
  *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  return real ? real(thread, attributes, body, argument) : ENOSYS;
}
