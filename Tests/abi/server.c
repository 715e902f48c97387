#include "server.h"

#include "harness.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static PGconn *watching;
static pid_t watching_process;

static void be_quiet(void *context, const PGresult *result) {
  (void)context;
  (void)result;
}

PGconn *connect_plainly(const char *conninfo) {
  PGconn *conn = PQconnectdb(conninfo);
  if (PQstatus(conn) != CONNECTION_OK) {
    fprintf(stderr, "    the test's own connection failed: %s", PQerrorMessage(conn));
    CHECK(PQstatus(conn) == CONNECTION_OK);
  }
  PQsetNoticeReceiver(conn, be_quiet, NULL);
  return conn;
}

PGconn *observer(void) {
  /* After a fork the connection is the parent's. It is left alone, not finished. */
  if (!watching || watching_process != getpid()) {
    watching = connect_plainly("application_name=observer");
    watching_process = getpid();
  }
  return watching;
}

static PGresult *run_format(PGconn *conn, const char *format, va_list arguments) {
  char query[2048];
  vsnprintf(query, sizeof query, format, arguments);
  return PQexec(conn, query);
}

static bool succeeded(PGconn *conn, const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
    return true;
  fprintf(stderr, "    query failed: %s", PQerrorMessage(conn));
  return false;
}

long sql_number(PGconn *conn, const char *query, ...) {
  va_list arguments;
  va_start(arguments, query);
  PGresult *result = run_format(conn, query, arguments);
  va_end(arguments);
  long value = succeeded(conn, result) && PQntuples(result) > 0 ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : -1;
  PQclear(result);
  return value;
}

bool sql_run(PGconn *conn, const char *query, ...) {
  va_list arguments;
  va_start(arguments, query);
  PGresult *result = run_format(conn, query, arguments);
  va_end(arguments);
  bool fine = succeeded(conn, result);
  PQclear(result);
  return fine;
}

bool sql_text(PGconn *conn, char *text, size_t size, const char *query, ...) {
  va_list arguments;
  va_start(arguments, query);
  PGresult *result = run_format(conn, query, arguments);
  va_end(arguments);
  bool fine = succeeded(conn, result) && PQntuples(result) > 0;
  snprintf(text, size, "%s", fine ? PQgetvalue(result, 0, 0) : "");
  PQclear(result);
  return fine;
}

int sessions(const char *name) {
  return (int)sql_number(observer(), "select count(*) from pg_stat_activity where application_name = '%s'", name);
}

int terminate_sessions(const char *name) {
  return (int)sql_number(observer(),
                         "with found as materialized (select pid from pg_stat_activity where application_name = '%s')"
                         " select count(*) from found where pg_terminate_backend(pid, 5000)",
                         name);
}

const char *server_host(void) {
  const char *host = getenv("PGHOST");
  return host && host[0] != '/' ? host : "127.0.0.1";
}

int server_port(void) {
  const char *port = getenv("PGPORT");
  return port ? atoi(port) : 5432;
}

void create_role(const char *role, const char *password, const char *options) {
  drop_role(role);
  CHECK(sql_run(observer(), "create role %s login password '%s' %s", role, password, options));
}

void drop_role(const char *role) {
  sql_run(observer(), "drop role if exists %s", role);
}

/* The server makes the key itself, in its data directory: so owner and mode are what it wants them to be. */
bool server_with_tls(void) {
  char on[8];
  if (sql_text(observer(), on, sizeof on, "show ssl") && strcmp(on, "on") == 0)
    return true;
  if (!sql_run(observer(), "copy (select 1) to program 'cat >/dev/null; umask 077; openssl req -new -x509 -nodes -days 2"
                           " -subj /CN=localhost -keyout server.key -out server.crt 2>/dev/null'") ||
      !sql_run(observer(), "alter system set ssl = on") || !sql_run(observer(), "select pg_reload_conf()"))
    return false;
  for (int64_t end = now_ms() + slow(5000); now_ms() < end; nap_ms(10))
    if (sql_text(observer(), on, sizeof on, "show ssl") && strcmp(on, "on") == 0)
      return true;
  return false;
}
