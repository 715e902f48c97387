#include "ledger.h"

#include "figures.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dbpool.h"

enum { MOST_LINES = 20, NAP_US = 5000 };

struct ledger *ledger;
/* The owner of each process number there can be: nothing hashed, so nothing is ever taken for another. Pages that
 * nobody writes cost nothing. */
static atomic_uint *owners;
static long owners_count;

static void *shared(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(2);
  }
  return memory;
}

void ledger_open(void) {
  owners_count = file_number("/proc/sys/kernel/pid_max", "") + 1;
  if (owners_count < 2)
    owners_count = 4194305;
  owners = shared((size_t)owners_count * sizeof *owners);
  ledger = shared(sizeof *ledger);
}

bool ledger_claim(int pid, uint32_t owner) {
  if (pid <= 0 || pid >= owners_count) {
    complain(&ledger->unclean_loans, "owner %u was lent a connection whose backend has the pid %d", owner, pid);
    return false;
  }
  unsigned none = 0;
  if (atomic_compare_exchange_strong(&owners[pid], &none, owner))
    return true;
  complain(&ledger->double_owners, "backend %d is lent to %u and has the owner %u still", pid, owner, none);
  return false;
}

void ledger_release(int pid, uint32_t owner) {
  unsigned mine = owner;
  if (!atomic_compare_exchange_strong(&owners[pid], &mine, 0))
    complain(&ledger->double_owners, "backend %d was %u's and has the owner %u", pid, owner, mine);
}

long ledger_owned(void) {
  long count = 0;
  for (long pid = 0; pid < owners_count; pid++)
    count += atomic_load_explicit(&owners[pid], memory_order_relaxed) != 0;
  return count;
}

/* Five letters and digits are a number of base 36. */
static unsigned key_of(const char *sqlstate) {
  return (unsigned)strtoul(sqlstate, NULL, 36) + 1;
}

void ledger_state(const char *sqlstate) {
  unsigned key = sqlstate ? key_of(sqlstate) : 1;
  for (int i = 0; i < MOST_STATES; i++) {
    unsigned found = 0;
    if (atomic_compare_exchange_strong(&ledger->states[i].key, &found, key) || found == key) {
      atomic_fetch_add(&ledger->states[i].count, 1);
      return;
    }
  }
}

void ledger_raise(atomic_long *longest, long us) {
  for (long known = atomic_load(longest); us > known;)
    if (atomic_compare_exchange_weak(longest, &known, us))
      break;
}

void ledger_nap(void) {
  int64_t began = now_us();
  nap_us(NAP_US);
  ledger_raise(&ledger->nap_late_us, (long)(now_us() - began) - NAP_US);
}

void complain(atomic_long *counter, const char *format, ...) {
  atomic_fetch_add(counter, 1);
  int line = atomic_fetch_add(&ledger->lines, 1);
  if (line > MOST_LINES)
    return;
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (line == MOST_LINES)
    snprintf(text, sizeof text, "further complaints are only counted");
  dprintf(STDERR_FILENO, "    process %d: %s\n", (int)getpid(), text);
}

static void print_state(unsigned key, long count) {
  char text[6] = "00000";
  key -= 1;
  for (int i = 4; i >= 0; i--, key /= 36)
    text[i] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[key % 36];
  printf(" %s %ld,", strcmp(text, "00000") == 0 ? "connection lost" : text, count);
}

void ledger_print(void) {
  printf("  %ld loans, %ld answers, %ld forked children, %ld actions on the pools\n", atomic_load(&ledger->loans),
         atomic_load(&ledger->answers), atomic_load(&ledger->children), atomic_load(&ledger->actions));
  printf("  failed queries:");
  for (int i = 0; i < MOST_STATES && atomic_load(&ledger->states[i].key) != 0; i++)
    print_state(atomic_load(&ledger->states[i].key), atomic_load(&ledger->states[i].count));
  printf(" as SQLSTATE and count\n  failed gets:");
  for (int i = 0; i < MOST_CODES; i++)
    if (atomic_load(&ledger->codes[i]) != 0)
      printf(" \"%s\" %ld,", pool_strerror(-i), atomic_load(&ledger->codes[i]));
  printf(" as code and count\n");
}
