import CPoolShims

/// libpq prints what it dislikes about the password file, at each attempt. So such a file is kept from it, which would not
/// use it either, and the error of the attempt says why.
enum PasswordFile {
  /// Where there is no file for sure.
  static var nowhere: StaticString { "/dev/null/passfile" }

  /// Why libpq would not use the file; nil if it would, needs none, or finds none.
  static func fault(_ parameters: ConnectParameters) -> UnsafePointer<CChar>? {
    guard parameters.value(for: "password") == nil, let path = parameters.value(for: "passfile") else { return nil }
    return pool_passfile_fault(path)
  }
}

extension Message {
  /// Behind the words of a login for which there was no password.
  mutating func appendPasswordFile(_ parameters: ConnectParameters) {
    guard let fault = PasswordFile.fault(parameters), let path = parameters.value(for: "passfile") else { return }
    append("; the password file \"")
    appendCleaned(cString: path)
    append("\" is not used, it ")
    append(cString: fault)
  }
}
