import CDBPool

/// The constant texts of `pool_strerror`.
enum ErrorText {
  static func of(_ code: Int32) -> UnsafePointer<CChar> {
    switch code {
    case POOL_OK: constant("no error")
    case POOL_EINVAL: constant("invalid argument")
    case POOL_ENOMEM: constant("out of memory")
    case POOL_ETIMEOUT: constant("no connection came free in time")
    case POOL_ECONNECT: constant("no connection could be opened in time")
    case POOL_EFULL: constant("too many callers wait for a connection")
    case POOL_ECLOSED: constant("the pool is closed")
    case POOL_EPAUSED: constant("the pool is paused")
    case POOL_PENDING: constant("not decided yet")
    case POOL_ENOTLEASED: constant("the connection is not borrowed: it was put back before")
    case POOL_EFOREIGN: constant("not a connection of this pool")
    case POOL_EFORKED: constant("the connection was borrowed before a fork and belongs to the parent process")
    case POOL_EDEADLOCK: constant("called from a callback of the same pool, it would wait for itself")
    case POOL_ESYSTEM: constant("the system refused")
    case POOL_EINTERNAL: constant("internal error of libdbpool")
    case POOL_ECANCELED: constant("the ticket was canceled")
    default: constant("unknown error code")
    }
  }

  static func constant(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }
}
