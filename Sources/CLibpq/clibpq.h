#include <libpq-events.h>
#include <libpq-fe.h>
