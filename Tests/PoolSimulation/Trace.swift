#if SWIFT_PACKAGE
  import PoolCore
#endif

/// The last events of a run, to be printed when it fails.
struct Trace {
  private struct Line {
    var time: Instant
    var what: StaticString
    var first: Int
    var second: Int
  }

  private static let length = 60
  private var lines: [Line] = []
  private var next = 0

  mutating func note(_ time: Instant, _ what: StaticString, _ first: Int = -1, _ second: Int = -1) {
    let line = Line(time: time, what: what, first: first, second: second)
    if lines.count < Trace.length {
      lines.append(line)
    } else {
      lines[next] = line
      next = (next + 1) % Trace.length
    }
  }

  func printAll() {
    for offset in 0..<lines.count {
      let line = lines[(next + offset) % lines.count]
      let arguments = [line.first, line.second].filter { $0 >= 0 }.map(String.init).joined(separator: " ")
      print("  \(line.time / 1000) us  \(line.what) \(arguments)")
    }
  }
}
