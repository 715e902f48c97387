"""Which page describes what. Every function of the header is on one of them: Tests/man looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page of section 3, named after its first function."""

    summary: str
    functions: tuple[str, ...]
    types: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()  # one of each group
    introductions: tuple[str, ...] = ()  # sections of the header whose opening words belong here
    see: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.functions[0]


PAGES = (
    Page(
        "make a pool of connections to PostgreSQL, wait until it is open, end it",
        ("pool_create", "pool_wait", "pool_close"),
        types=("pool_t",),
        see=("pool_options_init", "pool_get", "pool_resize"),
    ),
    Page(
        "options of a pool of connections",
        ("pool_options_init",),
        types=("pool_options_t", "pool_log_fn", "pool_configure_fn", "pool_conninfo_fn", "pool_free_fn"),
        macros=(
            "POOL_OPTIONS_INIT",
            "POOL_CHECK_NONE",
            "POOL_RESET_NONE",
            "POOL_LIFO",
            "POOL_LOG_DEBUG",
            "POOL_NAME_LIMIT",
        ),
        introductions=("options", "callbacks"),
        see=("pool_create", "pool_create_hosted"),
    ),
    Page(
        "borrow a connection from a pool",
        ("pool_get",),
        macros=("POOL_TIMEOUT_DEFAULT",),
        see=("pool_put", "pool_get_start", "pool_errcode"),
    ),
    Page(
        "borrow a connection in three steps, staying awake",
        ("pool_get_start", "pool_get_wait", "pool_get_cancel"),
        types=("pool_ticket_t",),
        macros=("POOL_TIMEOUT_DEFAULT",),
        introductions=("pool_get in three steps",),
        see=("pool_get", "pool_put"),
    ),
    Page(
        "give a borrowed connection back",
        ("pool_put", "pool_discard", "pool_report"),
        see=("pool_get", "pool_create_hosted"),
    ),
    Page(
        "hold loans back, for maintenance of the server",
        ("pool_pause", "pool_drain", "pool_resume"),
        see=("pool_resize", "pool_get"),
    ),
    Page(
        "change a running pool",
        ("pool_resize", "pool_reconnect"),
        see=("pool_create", "pool_pause"),
    ),
    Page(
        "pools of connections that the host program makes",
        ("pool_create_hosted", "pool_adopt", "pool_fail", "pool_collect"),
        macros=("POOL_FRESH", "POOL_OCCUPIED", "POOL_TOKEN_SLOT", "POOL_CLOSE"),
        introductions=("hosted pools",),
        see=("pool_get", "pool_put", "pool_options_init"),
    ),
    Page(
        "statistics of a pool",
        ("pool_stats",),
        types=("pool_stats_t",),
        see=("pool_create", "pool_options_init"),
    ),
    Page(
        "the last error of libdbpool",
        ("pool_errcode", "pool_errmsg", "pool_strerror"),
        macros=("POOL_OK",),
        see=("pool_create", "pool_get"),
    ),
    Page(
        "the version of libdbpool that runs",
        ("pool_version",),
        macros=("POOL_VERSION",),
    ),
)
