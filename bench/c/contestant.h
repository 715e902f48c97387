/* A pool that takes part: ours, those of others, and the floors below them. Each has a file of its own, all are linked
 * into one program, and they take turns in it. All connections are of libpq, to the server of the environment. */
#ifndef CONTESTANT_H
#define CONTESTANT_H

#ifdef __cplusplus
extern "C" {
#endif

struct contestant {
  const char *name;
  /* A pool with `size` open connections; ends the program if it cannot have them. */
  void *(*open)(int size);
  /* Waits until there is one. */
  void *(*get)(void *pool);
  void (*put)(void *pool, void *loan);
  void (*close)(void *pool);
  /* `count` times get and put, written where the compiler sees both: what a program with this pool alone would call.
   * The function's own name begins with `turns_`, which is where callgrind counts. */
  void (*turns)(void *pool, long count);
};

extern const struct contestant contestant_ours, contestant_zdb, contestant_reslist, contestant_soci;
/* Floors: no pool can take less, and a lock around a list is what programs write themselves. */
extern const struct contestant contestant_cas, contestant_mutexes, contestant_condition;

/* NULL-terminated, ours first. */
extern const struct contestant *const all_pools[];

const struct contestant *contestant_named(const char *name);

/* Prints what is wrong and ends the program. */
void give_up(const char *what, const char *why);

#ifdef __cplusplus
}
#endif

#endif
