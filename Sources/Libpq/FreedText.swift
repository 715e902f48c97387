import CPoolShims

/// Texts with a password that libpq has freed and not wiped.
///
/// What a thread has freed last is what malloc gives it next for the same size. So a few blocks of that size are taken,
/// wiped and given back. This is no guarantee, but without it each parsed conninfo stays in memory until something
/// else happens to be written there.
func wipeFreedText(bytes: Int) {
  withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: 8) { blocks in
    for index in 0..<8 { blocks[index] = malloc(bytes) }
    for index in 0..<8 {
      guard let block = blocks[index] else { continue }
      explicit_bzero(block, bytes)
      free(block)
    }
  }
}

/// As `wipeFreedText(bytes:)`, for copies of this text.
func wipeFreedCopies(of text: UnsafePointer<CChar>?) {
  if let text { wipeFreedText(bytes: strlen(text) &+ 1) }
}
