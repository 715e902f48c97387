import CPoolShims

/// What libpq would look up anew at each attempt: variables of the environment, the home folder. It is read once, and
/// then passed on, also when it is nothing: otherwise a later `setenv` of the program would change the pool's
/// connections, and race with the attempts that read.
struct PinnedOptions {
  /// Of the home folder; nil when there is none.
  private let home: UnsafePointer<CChar>?

  /// `home` must outlive it.
  init(home: UnsafePointer<CChar>?) { self.home = home }

  /// libpq takes an empty value of these for none, and does not look into the environment then.
  static func isNothingWhenEmpty(_ keyword: UnsafeBufferPointer<UInt8>) -> Bool {
    keyword.isEqual(to: "password") || keyword.isEqual(to: "host") || keyword.isEqual(to: "hostaddr")
      || keyword.isEqual(to: "client_encoding") || keyword.isEqual(to: "options") || keyword.isEqual(to: "sslcert")
      || keyword.isEqual(to: "sslkey") || keyword.isEqual(to: "sslrootcert") || keyword.isEqual(to: "sslcrl")
      || keyword.isEqual(to: "sslcrldir") || keyword.isEqual(to: "requirepeer") || keyword.isEqual(to: "require_auth")
      || keyword.isEqual(to: "ssl_max_protocol_version") || keyword.isEqual(to: "gsslib")
  }

  /// Without any `sslpassword` OpenSSL would ask for that of an encrypted key on the terminal, and wait for an answer.
  static var noPassphrase: StaticString { "(libdbpool has no passphrase)" }

  /// The file that libpq looks for in the home folder: the two parts of its path.
  func file(_ keyword: UnsafeBufferPointer<UInt8>) -> (UnsafePointer<CChar>, UnsafePointer<CChar>)? {
    guard let home else { return nil }
    if keyword.isEqual(to: "passfile") { return (home, cString("/.pgpass")) }
    if keyword.isEqual(to: "sslcert") { return (home, cString("/.postgresql/postgresql.crt")) }
    if keyword.isEqual(to: "sslkey") { return (home, cString("/.postgresql/postgresql.key")) }
    if keyword.isEqual(to: "sslrootcert") { return (home, cString("/.postgresql/root.crt")) }
    return nil
  }
}

/// In a process with the rights of another user (set-user-ID, file capabilities) the environment is that user's to
/// refuse: it says where the password goes. False: the message names the variable.
func mayUseEnvironment(_ message: inout Message) -> Bool {
  guard pool_has_foreign_rights() else { return true }
  return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
    guard let name = buffer.baseAddress, pool_libpq_variable(name, 64) else { return true }
    message.append("the environment has ")
    message.appendCleaned(cString: name)
    message.append(", which is not to be trusted in a process with the rights of another user: unset it")
    return false
  }
}
