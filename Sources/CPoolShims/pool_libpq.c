#include "pool_libpq.h"

/* Each member of the table and the function of libpq behind it. */
#define FUNCTIONS \
  FUNCTION(connectStartParams, PQconnectStartParams) \
  FUNCTION(connectPoll, PQconnectPoll) \
  FUNCTION(finish, PQfinish) \
  FUNCTION(conninfo, PQconninfo) \
  FUNCTION(conninfoParse, PQconninfoParse) \
  FUNCTION(conninfoFree, PQconninfoFree) \
  FUNCTION(freemem, PQfreemem) \
  FUNCTION(registerEventProc, PQregisterEventProc) \
  FUNCTION(status, PQstatus) \
  FUNCTION(transactionStatus, PQtransactionStatus) \
  FUNCTION(pipelineStatus, PQpipelineStatus) \
  FUNCTION(isNonblocking, PQisnonblocking) \
  FUNCTION(socket, PQsocket) \
  FUNCTION(backendPID, PQbackendPID) \
  FUNCTION(errorMessage, PQerrorMessage) \
  FUNCTION(host, PQhost) \
  FUNCTION(hostaddr, PQhostaddr) \
  FUNCTION(port, PQport) \
  FUNCTION(parameterStatus, PQparameterStatus) \
  FUNCTION(sslInUse, PQsslInUse) \
  FUNCTION(connectionNeedsPassword, PQconnectionNeedsPassword) \
  FUNCTION(setNonblocking, PQsetnonblocking) \
  FUNCTION(sendQuery, PQsendQuery) \
  FUNCTION(flush, PQflush) \
  FUNCTION(consumeInput, PQconsumeInput) \
  FUNCTION(isBusy, PQisBusy) \
  FUNCTION(getResult, PQgetResult) \
  FUNCTION(notifies, PQnotifies) \
  FUNCTION(resultStatus, PQresultStatus) \
  FUNCTION(resultErrorField, PQresultErrorField) \
  FUNCTION(clear, PQclear) \
  FUNCTION(setErrorVerbosity, PQsetErrorVerbosity) \
  FUNCTION(setErrorContextVisibility, PQsetErrorContextVisibility) \
  FUNCTION(setNoticeReceiver, PQsetNoticeReceiver) \
  FUNCTION(setNoticeProcessor, PQsetNoticeProcessor) \
  FUNCTION(untrace, PQuntrace)

#ifndef POOL_LIBPQ_BY_DLOPEN

#define FUNCTION(member, name) .member = name,
struct pool_libpq pool_libpq_functions = {FUNCTIONS};

bool pool_libpq_load(char *why, size_t size) { return (void)why, (void)size, true; }
void *pool_libpq_scope(void) { return NULL; } /* RTLD_DEFAULT */

#else

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

struct pool_libpq pool_libpq_functions;

#define FUNCTION(member, name) #name,
static const char *const names[] = {FUNCTIONS};
#undef FUNCTION
#define FUNCTION(member, name) offsetof(struct pool_libpq, member),
static const size_t places[] = {FUNCTIONS};

enum { COUNT = sizeof names / sizeof *names };
_Static_assert(sizeof pool_libpq_functions == COUNT * sizeof(void *), "a member of the table has no function");

static void *library;
static bool is_complete;

/* Several threads may come at once, and one of them may be gone in a child forked meanwhile. So there is no lock: the
 * loader gives all of them the same addresses, and each word is written by whoever is first. */
static void set_once(void *word, void *value) {
  typedef uintptr_t __attribute__((may_alias)) address;
  uintptr_t nothing = 0;
  (void)__atomic_compare_exchange_n((address *)word, &nothing, (uintptr_t)value, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE);
}

static bool find(void *opened, void *found[COUNT], char *why, size_t size) {
  for (int i = 0; i < COUNT; i++) {
    found[i] = dlsym(opened, names[i]);
    if (found[i] != NULL) continue;
    (void)snprintf(why, size, POOL_LIBPQ_SONAME " has no function %s: it is too old", names[i]);
    return false;
  }
  return true;
}

bool pool_libpq_is_complete(void) { return __atomic_load_n(&is_complete, __ATOMIC_ACQUIRE); }

bool pool_libpq_load(char *why, size_t size) {
  /* Never closed, since nobody knows when the last thread has left it or OpenSSL. The name is enough where the program has
   * loaded it already: both then use the same copy. */
  void *opened = dlopen(POOL_LIBPQ_SONAME, RTLD_NOW | RTLD_LOCAL);
  if (opened == NULL) {
    const char *text = dlerror();
    (void)snprintf(why, size, "%s", text != NULL ? text : POOL_LIBPQ_SONAME " cannot be loaded");
    return false;
  }
  void *found[COUNT];
  if (!find(opened, found, why, size)) return false;
  set_once(&library, opened);
  for (int i = 0; i < COUNT; i++) set_once((char *)&pool_libpq_functions + places[i], found[i]);
  __atomic_store_n(&is_complete, true, __ATOMIC_RELEASE);
  return true;
}

void *pool_libpq_scope(void) { return __atomic_load_n(&library, __ATOMIC_ACQUIRE); }

#endif
