"""The native library: finds it, and declares its functions in the order of dbpool.h. Only this file and
_libpq.py import ctypes.

Two views of one library. `_held` keeps Python's global lock during the call and is for what cannot block: the library
runs callbacks with no lock of its own held, so that a thread inside it never wants Python's lock while it keeps
others out. `_released` lets the other threads run, for what can block or work for long.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    PyDLL,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
    cast,
    memmove,
    sizeof,
)
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from . import _neighbours, errors
from ._version import __version__

# Here, not in __init__.py, which a neighbour that was installed later has replaced.
_neighbours.refuse_in(str(Path(__file__).parents[1]))

SONAME = "libdbpool.so.0"
HEADER_VERSION = tuple(int(part) for part in __version__.split(".")[:2])

PENDING = -8
TIMEOUT_DEFAULT = -1
TIMEOUT_INFINITE = -2
INT_MAX = 2**31 - 1

CHECKS = {"none": 0, "watch": 1, "socket": 2, "ping": 3}
RESETS = {"none": 0, "rollback": 1, "discard_all": 2, "query": 3}
QUEUE_MODES = {"lifo": 0, "fifo": 1}

# ------------------------------------------------------------------------------------------------------------ types


class Pointer(c_void_p):
    """An address that ctypes hands on as it is. As a result type it makes the call itself return a finished object:
    no Python code, and so no signal handler, runs between the call and the object."""

    __slots__ = ()


class Ticket(c_uint64):
    """A place in a pool's queue; 0 until pool_get_start() has written it."""

    __slots__ = ()


class Token(Pointer):
    """What pool_get() of a hosted pool returns; no address but a number: a slot, a generation and flags."""

    __slots__ = ()

    value: Any


TOKEN_FRESH = 1
TOKEN_OCCUPIED = 4
TOKEN_SLOT = 0xFFFFFF00
# Answers of pool_put().
CLOSE = 1
COLLECT = 2

LogFunction = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
ConfigureFunction = CFUNCTYPE(c_int, c_void_p, c_void_p)
ConninfoFunction = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
FreeFunction = CFUNCTYPE(None, c_void_p)


class Options(Structure):
    """pool_options_t."""

    _fields_ = (
        ("size", c_size_t),
        ("name", c_char_p),
        ("reset_query", c_char_p),
        ("log", LogFunction),
        ("configure", ConfigureFunction),
        ("conninfo_provider", ConninfoFunction),
        ("context", c_void_p),
        ("context_free", FreeFunction),
        ("min_size", c_int),
        ("max_size", c_int),
        ("max_waiting", c_int),
        ("acquire_timeout_ms", c_int),
        ("connect_timeout_ms", c_int),
        ("connect_concurrency", c_int),
        ("max_lifetime_ms", c_int),
        ("lifetime_jitter_percent", c_int),
        ("idle_timeout_ms", c_int),
        ("check", c_int),
        ("check_after_idle_ms", c_int),
        ("check_timeout_ms", c_int),
        ("reset", c_int),
        ("queue_mode", c_int),
        ("leak_threshold_ms", c_int),
        ("exact_times", c_int),
        ("background_open", c_int),
        ("reserved", c_int),
    )


GAUGES = ("min_size", "max_size", "total", "idle", "in_use", "connecting", "resetting", "closing", "waiting", "paused")
COUNTERS = (
    "gets",
    "puts",
    "waits",
    "timeouts",
    "cancels",
    "rejected",
    "opened",
    "connect_failures",
    "lost",
    "expired",
    "idle_closed",
    "discarded",
    "resets",
    "reset_failures",
    "checks",
    "check_failures",
    "leaks",
    "log_drops",
    "internal_errors",
    "stuck_connectors",
    "wait_us",
    "wait_max_us",
    "use_us",
    "connect_us",
)


class Stats(Structure):
    """pool_stats_t."""

    _fields_ = (
        ("size", c_size_t),
        *((name, c_int64) for name in GAUGES),
        *((name, c_uint64) for name in COUNTERS),
    )


# ---------------------------------------------------------------------------------------------------------- loading


def _candidates() -> list[str]:
    chosen = os.environ.get("DBPOOL_LIBRARY")
    if chosen:
        return [chosen]
    packaged = Path(__file__).with_name(SONAME)
    return [str(packaged)] * packaged.exists() + [SONAME]


def _load() -> tuple[PyDLL, CDLL, str]:
    path = _candidates()[0]
    try:
        return PyDLL(path), CDLL(path), path
    except OSError as error:
        raise ImportError(
            f"libdbpool is not to be loaded: {error}. Set DBPOOL_LIBRARY to the path of {SONAME}, or install it: the "
            "wheel of libdbpool for this kind of machine has it inside, the Debian package is libdbpool0"
        ) from error


_held, _released, library_path = _load()


def _fitting_version() -> str:
    """Of a library that has what this package needs."""
    try:
        function = _held["pool_version"]
    except AttributeError as error:
        raise ImportError(f"{library_path} is not libdbpool: it has no pool_version") from error
    function.restype = c_char_p
    found = text(function())
    numbers = re.match(r"(\d+)\.(\d+)(\.|$)", found)
    major, minor = HEADER_VERSION
    if numbers is None or int(numbers[1]) != major or int(numbers[2]) < minor:
        raise ImportError(
            f"{library_path} is libdbpool {found}, which does not fit the Python package, {__version__}: that needs "
            f"{major}.{minor} or a later {major}.x. Install both in the same version"
            + (", or unset DBPOOL_LIBRARY" if os.environ.get("DBPOOL_LIBRARY") else "")
        )
    return found


def text(message: bytes | None) -> str:
    return (message or b"").decode("utf-8", "replace")


library_version = _fitting_version()


def _declare(library: CDLL, name: str, restype: Any, argtypes: tuple[Any, ...], errcheck: Any = None) -> Any:
    """A function object of its own; the same name may be declared more than once, with different views."""
    try:
        function = library[name]
    except AttributeError as error:
        raise ImportError(f"{library_path} has no function {name}: not libdbpool, or too old") from error
    function.restype = restype
    function.argtypes = argtypes
    if errcheck is not None:
        function.errcheck = errcheck
    return function


# ------------------------------------------------------------------------------------------------- errors to classes


def failure(code: int) -> errors.Error:
    """The exception for a code that the library has just answered. Its message may have gone: a signal handler or a
    finalizer that used the library meanwhile has left its own."""
    return errors.from_code(code, text(errmsg() if errcode() == code else strerror(code)))


_step = partial.__call__


def told(call: partial[Any]) -> tuple[Any, errors.Error | None]:
    """For calls that answer NULL and leave the code to be asked for: what was granted, else why not. The library is
    called and asked in one step of the interpreter: a signal handler in between would leave an error of its own."""
    result, code, message = map(_step, (call, _errcode, _errmsg))
    return (result, None) if result else (result, errors.from_code(code, text(message)))


def local_failure(kind: type[errors.Error], detail: str) -> errors.Error:
    """An exception for what is known without asking the library."""
    return kind(f"{text(strerror(kind.code))}: {detail}")


def _zero(result: int, _function: Any, _arguments: Any) -> int:
    if result != 0:
        raise failure(result)
    return result


def _not_null(result: Any, _function: Any, _arguments: Any) -> Any:
    if not result:
        raise failure(errcode())
    return result


# ---------------------------------------------------------------------------------- the functions, in header order

_handle = c_void_p

options_init = _declare(_held, "pool_options_init", c_int, (POINTER(Options), c_size_t), _zero)
create = _declare(_released, "pool_create", c_void_p, (c_char_p, POINTER(Options)), _not_null)
# For a try (timeout 0), the fast path: the caller looks at the result.
get = _declare(_held, "pool_get", Pointer, (_handle, c_int))
put = _declare(_held, "pool_put", c_int, (_handle, c_void_p))  # fast path: the caller looks at the code
close = _declare(_released, "pool_close", c_int, (_handle,), _zero)
get_start = _declare(_held, "pool_get_start", c_int, (_handle, c_int, POINTER(Ticket)), _zero)
get_wait = _declare(_released, "pool_get_wait", Pointer, (_handle, c_uint64, c_int))
get_cancel = _declare(_held, "pool_get_cancel", c_int, (_handle, c_uint64))  # EINVAL: ended already
discard = _declare(_held, "pool_discard", c_int, (_handle, c_void_p))
report = _declare(_held, "pool_report", c_int, (_handle, c_void_p, c_char_p))  # CLOSE: it goes when it is put
wait = _declare(_released, "pool_wait", c_int, (_handle, c_int), _zero)
resize = _declare(_released, "pool_resize", c_int, (_handle, c_int, c_int), _zero)
pause = _declare(_held, "pool_pause", c_int, (_handle,), _zero)
resume = _declare(_held, "pool_resume", c_int, (_handle,), _zero)
drain = _declare(_released, "pool_drain", c_int, (_handle, c_int), _zero)
reconnect = _declare(_released, "pool_reconnect", c_int, (_handle,), _zero)
create_hosted = _declare(_released, "pool_create_hosted", c_void_p, (POINTER(Options),), _not_null)
adopt = _declare(_held, "pool_adopt", c_int, (_handle, c_void_p, c_int), _zero)
fail = _declare(_held, "pool_fail", c_int, (_handle, c_void_p, c_char_p, c_char_p))
collect = _declare(_released, "pool_collect", c_int, (_handle, POINTER(c_void_p), c_int, c_int))
stats = _declare(_held, "pool_stats", c_int, (_handle, POINTER(Stats)), _zero)
errcode = _declare(_held, "pool_errcode", c_int, ())
errmsg = _declare(_held, "pool_errmsg", c_char_p, ())
strerror = _declare(_held, "pool_strerror", c_char_p, (c_int,))
version = _declare(_held, "pool_version", c_char_p, ())
_errcode, _errmsg = partial(errcode), partial(errmsg)


_plain_loan: type[Pointer] = Pointer


def lend_as(live: type[Pointer], plain: type[Pointer]) -> None:
    """What pool_get() and pool_get_wait() return: `live`, whose finalizer gives back what nobody took. A NULL becomes
    `plain`, which has none."""
    global _plain_loan
    get.restype = get_wait.restype = live
    _plain_loan = plain


def as_plain(null: Pointer) -> None:
    """A NULL that pool_get() or pool_get_wait() returned."""
    null.__class__ = _plain_loan


def try_get(handle: int) -> tuple[Any, errors.Error | None]:
    """A try that tells why it failed."""
    loan, error = told(partial(get, handle, 0))
    if error is not None:
        as_plain(loan)
    return loan, error


def _raise_unless_pending(error: errors.Error) -> None:
    if error.code != PENDING:
        raise error


def granted(handle: int, ticket: int, wait_ms: int) -> Any:
    """The loan; None: not decided yet."""
    loan, error = told(partial(get_wait, handle, ticket, wait_ms))
    if error is None:
        return loan
    as_plain(loan)
    return _raise_unless_pending(error)


def hosted_calls(handle: int, token: type[Token]) -> tuple[Any, Any, Any, Any]:
    """For a hosted pool: an endless iterator, each step of which is a pool_get(handle, 0); `get(timeout_ms)`, which
    waits; pool_get_wait; and a `put(token)`. The tokens are of the given class.

    No types of arguments are declared for those without a handle, which halves the price of a call: arguments must be
    ctypes objects, or ints that fit a C int, which the calling convention widens.
    """
    get = _held["pool_get"]
    get.restype = token
    wait_for_token = _declare(_released, get_wait.__name__, token, get_wait.argtypes)
    argument = handle if handle <= INT_MAX else Pointer(handle)
    waiting = _released["pool_get"]
    waiting.restype = token

    def get_token(timeout_ms: int) -> Any:
        answer, error = told(partial(waiting, argument, timeout_ms))
        if error is not None:
            raise error
        return answer

    def get_wait_of_tokens(handle: int, ticket: int, wait_ms: int) -> Any:
        answer, error = told(partial(wait_for_token, handle, ticket, wait_ms))
        return answer if error is None else _raise_unless_pending(error)

    put = partial(_held["pool_put"], argument)
    return map(get, repeat(argument), repeat(0)), get_token, get_wait_of_tokens, put


# -------------------------------------------------------------------------------------------- structs and buffers


def new_options() -> Options:
    options = Options()
    options_init(byref(options), sizeof(options))
    return options


def read_stats(handle: int) -> Stats:
    result = Stats(size=sizeof(Stats))
    stats(handle, byref(result))
    return result


def start(handle: int, timeout_ms: int, ticket: Ticket) -> None:
    get_start(handle, timeout_ms, byref(ticket))


_COLLECT_AT_ONCE = 64


def collect_now(handle: int) -> list[Token]:
    """What there is to be closed at once, or a part of it."""
    tokens = (c_void_p * _COLLECT_AT_ONCE)()
    found = collect(handle, tokens, _COLLECT_AT_ONCE, 0)
    return [Token(tokens[i]) for i in range(max(0, found))]


NO_TOKEN = Token(None)


def exit_without_handlers() -> None:
    """When the interpreter has ended, the process ends with its status, without what libraries do at exit."""
    libc = CDLL(None)
    libc.fflush(None)
    with suppress(AttributeError):  # a C library without on_exit()
        libc.on_exit(cast(libc._exit, c_void_p), None)


def libpq() -> CDLL:
    """The copy of libpq whose connections the library lends. OSError where there is none."""
    with suppress(AttributeError):
        if _released["PQlibVersion"]:
            return _released  # linked with it, and so leads to it
    return CDLL("libpq.so.5")


class _Symbol(Structure):
    """Dl_info."""

    _fields_ = (("file", c_char_p), ("base", c_void_p), ("name", c_char_p), ("address", c_void_p))


def file_of(function: Any) -> str:
    """Where the code of a function was loaded from."""
    symbol = _Symbol()
    dladdr = CDLL(None).dladdr
    dladdr.argtypes = (c_void_p, POINTER(_Symbol))
    found = dladdr(cast(function, c_void_p), byref(symbol))
    return os.fsdecode(symbol.file) if found and symbol.file else "?"


def write_text(address: int, content: bytes) -> None:
    """Writes the text and its NUL; the caller has checked that they fit."""
    memmove(address, content + b"\0", len(content) + 1)
