import CPoolShims

/// Memory by checked C calls: a Swift array that cannot grow would abort the host program.
public enum Memory {
  /// Uninitialised memory for `count` elements, nil when there is none.
  public static func allocate<Element: ~Copyable>(
    _ type: Element.Type, count: Int
  ) -> UnsafeMutablePointer<Element>? {
    let (bytes, overflow) = MemoryLayout<Element>.stride.multipliedReportingOverflow(by: count)
    guard count >= 0, !overflow, let memory = malloc(Swift.max(bytes, 1)) else { return nil }
    return memory.assumingMemoryBound(to: Element.self)
  }

  public static func free(_ memory: UnsafeMutableRawPointer?) {
    CPoolShims.free(memory)
  }

  /// A copy of a C string, nil when there is no memory.
  public static func copy(_ text: UnsafePointer<CChar>) -> UnsafeMutablePointer<CChar>? {
    strdup(text)
  }
}
