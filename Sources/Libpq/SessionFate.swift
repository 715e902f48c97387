import CLibpq
import CPoolShims

/// What an error of the server's means for the session on which it came.
public enum SessionFate: Equatable {
  /// The session is as good as before.
  case stays
  /// It takes no writes (SQLSTATE 25006): because of its server, or only because a transaction was begun so.
  case isReadOnly
  /// It ends, or has ended.
  case ends

  /// From the SQLSTATE alone. Class 08 is a broken connection, 57P a server or a session that is being ended, 25P03 and
  /// 25P04 are time-outs that end the session. Class XX says that something is wrong with the server's data or code, and
  /// leaves the session usable.
  public init(sqlState: UnsafeBufferPointer<UInt8>) {
    if sqlState.isEqual(to: "25006") {
      self = .isReadOnly
    } else if sqlState.hasPrefix("08") || sqlState.hasPrefix("57P") || sqlState.isEqual(to: "25P03")
      || sqlState.isEqual(to: "25P04")
    {
      self = .ends
    } else {
      self = .stays
    }
  }

  /// With the untranslated severity, nil before PostgreSQL 9.6: FATAL and PANIC end the session whatever the SQLSTATE;
  /// an ERROR of class 08 is about a foreign server's session (dblink, postgres_fdw).
  init(severity: UnsafeBufferPointer<UInt8>?, sqlState: UnsafeBufferPointer<UInt8>) {
    self.init(sqlState: sqlState)
    guard let severity else { return }
    if severity.isEqual(to: "FATAL") || severity.isEqual(to: "PANIC") {
      self = .ends
    } else if sqlState.hasPrefix("08") {
      self = .stays
    }
  }

  /// From a result of a query: anything but a failure stays. The corresponding C functions are `PQresultStatus` and
  /// `PQresultErrorField`.
  @inline(__always)
  public init(result: OpaquePointer) {
    self = pool_libpq_table().pointee.resultStatus(result) == PGRES_FATAL_ERROR ? SessionFate(failure: result) : .stays
  }

  @inline(never)
  private init(failure result: OpaquePointer) {
    let libpq = pool_libpq_table().pointee
    // Without a SQLSTATE it is libpq's own error: the connection's status tells.
    guard let state = libpq.resultErrorField(result, CInt(UInt8(ascii: "C"))) else {
      self = .stays
      return
    }
    let severity = libpq.resultErrorField(result, CInt(UInt8(ascii: "V")))
    self.init(
      severity: severity.map { UnsafeBufferPointer(cString: $0) }, sqlState: UnsafeBufferPointer(cString: state))
  }
}

/// Five digits or capitals.
public func isSQLState(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
  for byte in text {
    let isDigit = byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    guard isDigit || (byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z")) else { return false }
  }
  return text.count == 5
}
