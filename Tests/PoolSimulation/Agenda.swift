#if SWIFT_PACKAGE
  import PoolCore
#endif

/// What will happen by itself at a known time. Numbers name attempts, sessions, waiters and loans; what they name may
/// be gone by then.
enum Happening {
  case upkeep(turn: Int)
  case attemptStarts(Int)
  case attemptReaches(Int)
  case attemptEnds(Int)
  case backgroundEnds(slot: Int, turn: Int)
  case peerCloses(slot: Int, session: Int)
  case lossIsSeen(slot: Int, session: Int)
  case wakes(waiter: Int)
  case deadline(waiter: Int)
  case polls(waiter: Int)
  case cancels(waiter: Int)
  case looked(waiter: Int)
  case putsBack(slot: Int, loan: Int)
  case pushes(slot: Int, loan: Int)
  case rechecks(slot: Int, loan: Int)
  case hostEnds(Int)
  case confirms(slot: Int, session: Int)
  case collects
}

/// Happenings by time; those of one time in the order in which they were entered.
struct Agenda {
  private struct Entry {
    var time: Instant
    var order: Int
    var what: Happening

    func isBefore(_ other: Entry) -> Bool { time != other.time ? time < other.time : order < other.order }
  }

  private var entries: [Entry] = []
  private var order = 0

  var nextTime: Instant { entries.first?.time ?? .never }

  mutating func enter(_ what: Happening, at time: Instant) {
    order += 1
    entries.append(Entry(time: time, order: order, what: what))
    var index = entries.count - 1
    while index > 0, entries[index].isBefore(entries[(index - 1) / 2]) {
      entries.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func popFirst() -> Happening? {
    guard let first = entries.first, let last = entries.popLast() else { return nil }
    guard !entries.isEmpty else { return first.what }
    entries[0] = last
    var index = 0
    while true {
      var child = 2 * index + 1
      guard child < entries.count else { break }
      if child + 1 < entries.count, entries[child + 1].isBefore(entries[child]) { child += 1 }
      guard entries[child].isBefore(entries[index]) else { break }
      entries.swapAt(child, index)
      index = child
    }
    return first.what
  }

  mutating func removeAll() { entries.removeAll() }
}
