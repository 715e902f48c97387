/* What the process was given by whoever started it. */
#ifndef POOL_ENVIRONMENT_H
#define POOL_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* The process has rights that the one who started it has not: set-user-ID, set-group-ID, file capabilities. */
bool pool_has_foreign_rights(void);

/* Copies the name of a variable that libpq would read ("PGHOST"), cut to `size`. False: there is none. */
bool pool_libpq_variable(char *name, size_t size);

/* Copies the home folder, as libpq finds it; with foreign rights that of the user whose rights they are. False: there is
 * none, or it does not fit. */
bool pool_home(char *path, size_t size);

/* What libpq dislikes about the password file at `path`, in words; NULL if nothing, or if there is no such file. */
const char *pool_passfile_fault(const char *path);

#endif
