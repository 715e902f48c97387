import CLibpq
import CPoolShims

/// What `target_session_attrs` asks of a session, as far as it can change while the session is open.
public enum SessionTarget: Equatable {
  case any, readWrite, readOnly, primary
  /// Also of `prefer-standby`, for a session that is on one.
  case standby

  init(attribute: UnsafeBufferPointer<UInt8>) {
    if attribute.isEqual(to: "read-write") {
      self = .readWrite
    } else if attribute.isEqual(to: "read-only") {
      self = .readOnly
    } else if attribute.isEqual(to: "primary") {
      self = .primary
    } else if attribute.isEqual(to: "standby") || attribute.isEqual(to: "prefer-standby") {
      self = .standby
    } else {
      self = .any
    }
  }

  /// Whether a session is what it should be; nil when the server has not reported what that takes.
  func isMet(inHotStandby: Bool?, isReadOnly: Bool?) -> Bool? {
    switch self {
    case .any: return nil
    case .primary: return inHotStandby.map { !$0 }
    case .standby: return inHotStandby
    case .readWrite: return takesNoWrites(inHotStandby, isReadOnly).map { !$0 }
    case .readOnly: return takesNoWrites(inHotStandby, isReadOnly)
    }
  }

  private func takesNoWrites(_ inHotStandby: Bool?, _ isReadOnly: Bool?) -> Bool? {
    if inHotStandby == true || isReadOnly == true { return true }
    return inHotStandby == nil || isReadOnly == nil ? nil : false
  }

  /// As the server has reported up to now, without asking it.
  @inline(never)
  public func isMet(by connection: Connection) -> Bool? {
    guard self != .any else { return nil }
    return isMet(
      inHotStandby: connection.flag("in_hot_standby"), isReadOnly: connection.flag("default_transaction_read_only"))
  }

  /// Whether its being read-only is what was asked for.
  public var wantsReadOnly: Bool { self == .readOnly || self == .standby }
}

extension Connection {
  /// nil before PostgreSQL 14, which does not report it.
  fileprivate func flag(_ name: StaticString) -> Bool? {
    parameterStatus(name).map { UnsafeBufferPointer<UInt8>(cString: $0).isEqual(to: "on") }
  }

  /// The server or the session's defaults refuse writes. A server that does not report it gets no benefit of the doubt.
  public var isReadOnly: Bool {
    guard let inHotStandby = flag("in_hot_standby"), let byDefault = flag("default_transaction_read_only") else {
      return true
    }
    return inHotStandby || byDefault
  }
}

extension ConnectParameters {
  public var sessionTarget: SessionTarget { SessionTarget(attribute: list("target_session_attrs")) }
}
