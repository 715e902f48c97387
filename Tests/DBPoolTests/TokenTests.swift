import CDBPool
import CPoolShims
import XCTest

@testable import DBPool

final class TokenTests: XCTestCase {
  private let indices = [0, 1, 15, 16, 65_535, 65_536, Int(POOL_RECORD_LIMIT) - 1]
  private let generations: [UInt64] = [0, 1, 2, 1 << 20, (1 << 42) - 1]

  func testIndexAndGenerationComeBack() {
    for index in indices {
      for generation in generations {
        let token = Token.make(index: index, generation: generation)
        XCTAssertEqual(Token.index(token), index)
        XCTAssertEqual(Token.generation(token), generation)
        XCTAssertTrue(Token.isPlausible(token))
        XCTAssertEqual(token & Token.forkedBit, 0)
      }
    }
  }

  func testTheMarkOfAForkChangesNothingElse() {
    for index in indices {
      for generation in generations {
        let token = Token.make(index: index, generation: generation) | Token.forkedBit
        XCTAssertEqual(Token.index(token), index)
        XCTAssertEqual(Token.generation(token), generation)
        XCTAssertFalse(Token.isPlausible(token))
      }
    }
  }

  func testAnAddressIsNoToken() {
    var number = 0
    withUnsafePointer(to: &number) { XCTAssertFalse(Token.isPlausible(UInt64(UInt(bitPattern: $0)))) }
    for address in [0, 2, 0x7FFF_FFFF_F000, UInt64.max - 1] { XCTAssertFalse(Token.isPlausible(address)) }
  }

  func testTokensDiffer() {
    let tokens = indices.flatMap { index in generations.map { Token.make(index: index, generation: $0) } }
    XCTAssertEqual(Set(tokens).count, tokens.count)
  }

  func testAnyBitsNameAPlaceThatThereIs() {
    for token in [0, 1, UInt64.max, 0xDEAD_BEEF_DEAD_BEEF, 1 << 63] {
      XCTAssertTrue((0..<Token.indexLimit).contains(Token.index(token)))
    }
  }

  /// What the registry says of tokens that it never gave.
  func testBitsThatNeverWereAPoolAreRefused() {
    for bits in [0, 1, 2, 0xFFFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0001] as [UInt] {
      guard case .failed(let code) = Registry.find(OpaquePointer(bitPattern: bits)) else {
        return XCTFail("found a pool")
      }
      XCTAssertEqual(code, POOL_EINVAL, String(bits, radix: 16))
      XCTAssertNil(Registry.record(OpaquePointer(bitPattern: bits)))
    }
  }
}

final class TicketTokenTests: XCTestCase {
  private let indices = [0, 1, 15, 16, 65_535, (1 << 24) - 2]
  private let generations: [UInt64] = [0, 1, 2, 1 << 32, (1 << 40) - 1]

  func testIndexAndGenerationComeBack() {
    for index in indices {
      for generation in generations {
        let token = TicketToken.make(index: index, generation: generation)
        XCTAssertNotEqual(token, 0)
        XCTAssertEqual(TicketToken.index(token), index)
        XCTAssertTrue(TicketToken.matches(token, generation: generation))
        XCTAssertFalse(TicketToken.matches(token, generation: generation + 1))
      }
    }
  }

  func testTheGenerationWrapsAround() {
    let token = TicketToken.make(index: 3, generation: 1 << 40 | 5)
    XCTAssertEqual(TicketToken.index(token), 3)
    XCTAssertTrue(TicketToken.matches(token, generation: 5))
    XCTAssertTrue(TicketToken.matches(token, generation: 1 << 40 | 5))
  }

  func testNoTicketHasNoPlace() {
    XCTAssertEqual(TicketToken.index(0), -1)
    let record = makeRecord()
    for ticket in [0, 1, UInt64.max, 1 << 24] { XCTAssertNil(Tickets.find(record, ticket)) }
    XCTAssertTrue(PoolMemory.provideTickets(record))
    for ticket in [0, 1, 16, 17, UInt64.max, 1 << 24] { XCTAssertNil(Tickets.find(record, ticket)) }
  }

  func testATicketIsFoundUntilItEnds() throws {
    let record = makeRecord()
    XCTAssertTrue(PoolMemory.provideTickets(record))
    guard case .waiting(let ticket) = record.pointee.core.acquire(deadline: .never, isDetached: true, now: 0) else {
      return XCTFail("no ticket")
    }
    let waiter = Waiter.of(ticket)
    let token = TicketToken.make(index: waiter.pointee.index, generation: ticket.pointee.generation)
    XCTAssertEqual(Tickets.find(record, token), waiter)
    XCTAssertNil(Tickets.find(record, token &+ 1 << 24), "of another generation")
    record.pointee.core.cancel(ticket, now: 0)
    XCTAssertNil(Tickets.find(record, token))
  }
}
