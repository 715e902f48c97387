import CDBPool
import CPoolShims
import PoolCore
import Synchronization
import XCTest

@testable import DBPool

private func pointer(_ bits: UInt) -> UnsafeMutableRawPointer {
  UnsafeMutableRawPointer(bitPattern: bits)!  // no test asks for 0
}

final class HostedTokenTests: XCTestCase {
  private let slots = [0, 1, 255, 65_534, (1 << 24) - 1]
  private let generations: [UInt32] = [0, 1, 255, 1 << 31, .max]

  /// The macros POOL_TOKEN_... of the header do the same.
  func testSlotAndGenerationComeBack() {
    for slot in slots {
      for generation in generations where slot != 0 || generation != 0 {
        let handle = HostedToken.make(slot: slot, generation: generation)
        XCTAssertEqual(handle >> 8 & 0xFF_FFFF, UInt(slot))
        XCTAssertEqual(handle >> 32, UInt(generation))
        XCTAssertEqual(handle & 0xFF, 0)
        XCTAssertEqual(HostedToken(pointer(handle)).slot, slot)
      }
    }
  }

  func testATokenIsNeverNull() {
    XCTAssertNotEqual(HostedToken.make(slot: 0, generation: 0), 0)
    let last = HostedToken.make(slot: 0, generation: .max)
    XCTAssertEqual(HostedToken.next(last), HostedToken.make(slot: 0, generation: 1))
    XCTAssertEqual(HostedToken.next(HostedToken.make(slot: 3, generation: .max)), 3 << 8)
  }

  func testTheNextTokenIsOfTheSameSlot() {
    for slot in slots {
      for generation in generations {
        let handle = HostedToken.make(slot: slot, generation: generation)
        XCTAssertNotEqual(HostedToken.next(handle), handle)
        XCTAssertEqual(HostedToken(pointer(HostedToken.next(handle))).slot, slot)
      }
    }
  }

  func testFlagsAreNoPartOfWhatATokenStandsFor() {
    let handle = HostedToken.make(slot: 7, generation: 9)
    for flags in 0...255 as ClosedRange<UInt> { XCTAssertEqual(HostedToken(pointer(handle | flags)).handle, handle) }
    func flags(_ isFresh: Bool, _ isOccupied: Bool, _ isDoubtful: Bool) -> Int32 {
      Int32(HostedToken.flags(isFresh: isFresh, isOccupied: isOccupied, isDoubtful: isDoubtful))
    }
    XCTAssertEqual(flags(false, false, false), 0)
    XCTAssertEqual(flags(true, false, false), POOL_FRESH)
    XCTAssertEqual(flags(true, true, false), POOL_FRESH | POOL_OCCUPIED)
    XCTAssertEqual(flags(false, true, true), POOL_DOUBTFUL)
  }

  func testTheOrderOfTokensGoesAroundTheEnd() {
    var handle = HostedToken.make(slot: 2, generation: .max - 2)
    let first = HostedToken(pointer(handle))
    for _ in 0..<6 { handle = HostedToken.next(handle) }
    XCTAssertTrue(first.isEarlier(than: handle))
    XCTAssertTrue(HostedToken(pointer(handle)).isEarlier(than: handle), "in force just now")
    XCTAssertFalse(HostedToken(pointer(handle)).isEarlier(than: first.handle))
    XCTAssertFalse(first.isEarlier(than: 0), "nothing was in force")
  }
}

/// A hosted pool that no registry knows: nothing but its state and tokens.
private struct HostedFixture {
  let record = makeRecord(maxSize: 2)

  init(slots: Int = 2) {
    var settings = Settings()
    settings.isHosted = true
    settings.maxSize = slots
    settings.maxLifetime = .never
    record.pointee.core = PoolCore(settings: settings)
    record.pointee.isHosted = true
    XCTAssertTrue(PoolMemory.provideSlots(record, slots))
    record.pointee.token.store(token, ordering: .relaxed)
  }

  let token = Token.make(index: 0, generation: 1)
  func session(_ index: Int) -> SessionPointer { record.pointee.sessions.element(index)! }
  func state(_ index: Int) -> SlotState { session(index).pointee.slot.state }

  /// As pool_get: of an idle slot, or of a fresh one.
  func get() -> UnsafeMutableRawPointer? {
    let slot = record.pointee.core.tryAcquire(now: 0) ?? record.pointee.core.tryAcquireFresh(now: 0)
    guard let slot else { return nil }
    let loan = Loan(Session.of(slot), isChecked: true)
    loan.begin()
    return loan.hand()
  }

  func adopt(_ token: UnsafeMutableRawPointer) {
    record.pointee.core.adopted(session(HostedToken(token).slot).slotPointer, now: 0)
  }

  func borrow() throws -> UnsafeMutableRawPointer {
    let token = try XCTUnwrap(get())
    if UInt(bitPattern: token) & UInt(POOL_FRESH) != 0 { adopt(token) }
    return token
  }

  func put(_ token: UnsafeMutableRawPointer) -> Int32 { Hosting.put(record, HostedToken(token)) }
  func discard(_ token: UnsafeMutableRawPointer) -> Int32 { Hosting.discard(record, HostedToken(token)) }

  /// As in a child, when it first uses the pool.
  func fork() {
    record.pointee.core.startOver()
    Hosting.noteForked(record)
    PoolMemory.addAll(record)
    Hosting.numberOn(record)
  }
}

final class HostedTokenInForceTests: XCTestCase {
  func testEachLoanHasATokenOfItsOwn() throws {
    let pool = HostedFixture()
    let first = try pool.borrow()
    XCTAssertEqual(pool.put(first), 0)
    let second = try pool.borrow()
    XCTAssertEqual(HostedToken(first).slot, HostedToken(second).slot)
    XCTAssertNotEqual(HostedToken(first).handle, HostedToken(second).handle)
    XCTAssertEqual(UInt(bitPattern: second) & 0xFF, 0, "open already")
    XCTAssertEqual(pool.put(first), POOL_ENOTLEASED)
    XCTAssertEqual(pool.discard(first), POOL_ENOTLEASED)
    XCTAssertEqual(pool.put(second), 0)
    XCTAssertEqual(pool.put(second), POOL_ENOTLEASED)
  }

  func testAFreshTokenIsAdoptedOrDiscardedBeforeItIsPut() throws {
    let pool = HostedFixture()
    let token = try XCTUnwrap(pool.get())
    XCTAssertEqual(UInt(bitPattern: token) & 0xFF, UInt(POOL_FRESH))
    XCTAssertEqual(pool.put(token), POOL_EINVAL)
    XCTAssertEqual(pool.discard(token), 0)
    XCTAssertEqual(pool.state(HostedToken(token).slot), .empty)
    XCTAssertEqual(pool.discard(token), POOL_ENOTLEASED)
  }

  func testATokenStaysInForceUntilItsObjectIsClosed() throws {
    let pool = HostedFixture()
    let token = try pool.borrow()
    pool.record.pointee.core.reconnect(now: 0)
    XCTAssertEqual(pool.put(token), POOL_CLOSE)
    XCTAssertEqual(pool.put(token), POOL_ENOTLEASED)
    XCTAssertEqual(pool.state(HostedToken(token).slot), .ending)
    XCTAssertEqual(pool.discard(token), 0)
    XCTAssertEqual(pool.state(HostedToken(token).slot), .closing)
    XCTAssertEqual(pool.discard(token), POOL_ENOTLEASED)
  }

  func testACollectedTokenIsDiscardedOnce() throws {
    let pool = HostedFixture()
    let lent = try pool.borrow()
    XCTAssertEqual(pool.put(lent), 0)
    pool.record.pointee.core.reconnect(now: 0)
    var tokens = [UnsafeMutableRawPointer?](repeating: nil, count: 4)
    let fetched = tokens.withUnsafeMutableBufferPointer { Collecting.from(pool.record, pool.token, $0, 0) }
    XCTAssertEqual(fetched, 1)
    let token = try XCTUnwrap(tokens[0])
    XCTAssertEqual(HostedToken(token).slot, HostedToken(lent).slot)
    XCTAssertEqual(tokens.withUnsafeMutableBufferPointer { Collecting.from(pool.record, pool.token, $0, 0) }, 0)
    XCTAssertEqual(pool.discard(lent), POOL_ENOTLEASED)
    XCTAssertEqual(pool.put(token), POOL_ENOTLEASED)
    XCTAssertEqual(pool.discard(token), 0)
    XCTAssertEqual(pool.discard(token), POOL_ENOTLEASED)
  }

  /// Slot 0 has no token in force while it is granted and not handed out.
  func testSmallNumbersAreNoTokens() {
    let pool = HostedFixture()
    XCTAssertNotNil(pool.record.pointee.core.tryAcquireFresh(now: 0))
    XCTAssertEqual(pool.state(0), .opening)
    for bits in 1...255 as ClosedRange<UInt> {
      XCTAssertEqual(pool.put(pointer(bits)), POOL_EFOREIGN)
      XCTAssertEqual(pool.discard(pointer(bits)), POOL_EFOREIGN)
      XCTAssertEqual(Hosting.fail(pool.record, HostedToken(pointer(bits)), nil, nil), POOL_EFOREIGN)
    }
    XCTAssertEqual(pool.state(0), .opening)
  }

  func testTokensOfNobodyAreForeign() throws {
    let pool = HostedFixture()
    let token = try pool.borrow()
    let count = pool.record.pointee.sessions.count
    let handle = HostedToken(token).handle
    for foreign in [
      handle &+ 1 << 32, handle &+ 1 << 62, HostedToken.make(slot: count, generation: 5), handle | 0xFF_FFFF << 8,
      UInt.max,
    ] {
      XCTAssertEqual(pool.put(pointer(foreign)), POOL_EFOREIGN, String(foreign, radix: 16))
      XCTAssertEqual(pool.discard(pointer(foreign)), POOL_EFOREIGN, String(foreign, radix: 16))
    }
    XCTAssertEqual(pool.put(token), 0)
  }

  func testEveryAncestorsTokenIsForked() throws {
    let pool = HostedFixture()
    let ended = try pool.borrow()
    XCTAssertEqual(pool.put(ended), 0)
    let grandparents = try pool.borrow()
    pool.fork()
    let parents = try pool.borrow()
    XCTAssertEqual(pool.put(grandparents), POOL_EFORKED)
    pool.fork()
    let own = try pool.borrow()
    for token in [ended, grandparents, parents] {
      XCTAssertEqual(pool.put(token), POOL_EFORKED)
      XCTAssertEqual(pool.discard(token), POOL_EFORKED)
    }
    XCTAssertEqual(pool.put(own), 0)
    XCTAssertEqual(pool.put(own), POOL_ENOTLEASED)
  }

  func testOfANativePoolNothingIsAdopted() {
    let record = makeRecord()
    XCTAssertEqual(Hosting.adopt(record, HostedToken(pointer(1 << 32)), 0), POOL_EINVAL)
    XCTAssertEqual(Hosting.fail(record, HostedToken(pointer(1 << 32)), nil, nil), POOL_EINVAL)
    var tokens: [UnsafeMutableRawPointer?] = [nil]
    XCTAssertEqual(tokens.withUnsafeMutableBufferPointer { Collecting.from(record, 1, $0, 0) }, POOL_EINVAL)
  }
}
