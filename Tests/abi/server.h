/* The server as seen by a plain libpq connection of the test's own: what the library says about itself is never
 * taken as proof. */
#ifndef SERVER_H
#define SERVER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* The observing connection of this process, made at first use. Use it from one thread at a time. */
PGconn *observer(void);
PGconn *connect_plainly(const char *conninfo);

/* The first value of the first row; -1 when there is none or the query failed. */
long sql_number(PGconn *conn, const char *query, ...) __attribute__((format(printf, 2, 3)));
bool sql_run(PGconn *conn, const char *query, ...) __attribute__((format(printf, 2, 3)));
bool sql_text(PGconn *conn, char *text, size_t size, const char *query, ...) __attribute__((format(printf, 4, 5)));

/* Sessions whose application_name is `name`. */
int sessions(const char *name);
/* Ends them and waits until the server's processes are gone. */
int terminate_sessions(const char *name);

/* Host and port of the server over TCP. */
const char *server_host(void);
int server_port(void);

/* A role with the password and options given ("connection limit 2"), dropped by drop_role(). */
void create_role(const char *role, const char *password, const char *options);
void drop_role(const char *role);

/* Turns TLS on, with a certificate of the server's own; false when it cannot. */
bool server_with_tls(void);

#endif
