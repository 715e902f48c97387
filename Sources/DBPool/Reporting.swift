import CDBPool
import CLibpq
import CPoolShims
import Synchronization

#if SWIFT_PACKAGE
  import Libpq
  import PoolCore
  import PoolRuntime
#endif

/// `pool_report`: what the holder of a connection knows of it and the pool does not.
enum Reporting {
  static func report(
    _ record: RecordPointer, _ connection: UnsafeMutableRawPointer, _ sqlState: UnsafePointer<CChar>?
  ) -> Int32 {
    guard let fate = fate(sqlState) else { return refuse(sqlState) }
    if record.pointee.isHosted { return Hosting.report(record, HostedToken(connection), fate) }
    let address = UInt(bitPattern: connection)
    record.enter()
    guard let session = ConnectionTable.session(record, address) else { return Returning.refuse(record, address) }
    guard session.pointee.lent.load(ordering: .relaxed) == address else {
      record.leave()
      return Returning.notLeased(record)
    }
    switch fate {
    case .stays: break
    // Its holder's word is taken for it that the server is read-only, not only the transaction.
    case .isReadOnly, .ends: session.pointee.expectedSocket.store(Session.unfit, ordering: .relaxed)
    }
    let isLeaving =
      session.pointee.expectedSocket.load(ordering: .relaxed) == Session.unfit
      || record.pointee.core.isLeaving(session.slotPointer)
    record.leave()
    return isLeaving ? POOL_CLOSE : POOL_OK
  }

  /// nil for what is no SQLSTATE.
  private static func fate(_ sqlState: UnsafePointer<CChar>?) -> SessionFate? {
    guard let sqlState else { return nil }
    let bytes = UnsafeBufferPointer(
      start: UnsafeRawPointer(sqlState).assumingMemoryBound(to: UInt8.self), count: strnlen(sqlState, 6))
    return isSQLState(bytes) ? SessionFate(sqlState: bytes) : nil
  }

  private static func refuse(_ sqlState: UnsafePointer<CChar>?) -> Int32 {
    guard let sqlState else { return Failure.set(POOL_EINVAL, "sqlstate is NULL") }
    return Failure.set(POOL_EINVAL) {
      $0.append("sqlstate is \"")
      $0.appendCleaned(
        bytes: UnsafeRawPointer(sqlState).assumingMemoryBound(to: UInt8.self), count: strnlen(sqlState, 40))
      $0.append("\"; it must be five digits or capital letters, such as 25006 or 57P01")
    }
  }
}
