import CPoolShims
import Synchronization

/// A lock of one word: 0 free, 1 held, 2 held and somebody may sleep on it (Drepper, "Futexes Are Tricky", mutex 2).
///
/// Not `pthread_mutex`: half the instructions, and a forked child sets it free by storing 0. Not
/// `Synchronization.Mutex`: that one traps in a forked child. Zero-filled memory is a free lock.
///
/// No wake-up is lost: a thread sleeps only while the word is 2, and whoever frees the lock by exchanging 2 for 0
/// wakes one; the woken takes it with 2, so that those still asleep are not forgotten.
public struct Lock: ~Copyable {
  private let word = Atomic<UInt32>(0)

  public init() {}

  @inline(__always)
  public func lock() {
    if !tryLock() { lockSlowly() }
  }

  /// Takes it if it is free.
  @inline(__always)
  public func tryLock() -> Bool {
    word.compareExchange(expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed).exchanged
  }

  @inline(__always)
  public func unlock() {
    if word.exchange(0, ordering: .releasing) == 2 { wakeOne() }
  }

  /// In a forked child: whoever held it does not exist here.
  public func startOver() { word.store(0, ordering: .relaxed) }

  @inline(never)
  private func lockSlowly() {
    for _ in 0..<100 {
      if word.load(ordering: .relaxed) == 0 {
        let (taken, _) = word.compareExchange(
          expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed)
        if taken { return }
      }
      pool_cpu_relax()
    }
    while word.exchange(2, ordering: .acquiring) != 0 {
      _ = withFutex { pool_futex_wait($0, 2, -1) }
    }
  }

  @inline(never)
  private func wakeOne() {
    withFutex { pool_futex_wake($0, 1) }
  }

  private func withFutex<Result>(_ body: (UnsafeMutablePointer<UInt32>) -> Result) -> Result {
    // The atomic's storage is its address: it is never copied or moved.
    withUnsafePointer(to: word) {
      body(UnsafeMutableRawPointer(mutating: $0).assumingMemoryBound(to: UInt32.self))
    }
  }
}
