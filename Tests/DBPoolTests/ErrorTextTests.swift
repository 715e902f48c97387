import CDBPool
import CPoolShims
import XCTest

@testable import DBPool

final class ErrorTextTests: XCTestCase {
  private func text(_ code: Int32) -> String { String(cString: ErrorText.of(code)) }

  func testEveryCodeHasATextOfItsOwn() {
    XCTAssertEqual(POOL_ECANCELED, -15, "a new code needs a text")
    let texts = (POOL_ECANCELED...POOL_OK).map(text)
    XCTAssertEqual(Set(texts).count, 16)
    XCTAssertFalse(texts.contains("unknown error code"))
    XCTAssertFalse(texts.contains(""))
    XCTAssertEqual(text(POOL_OK), "no error")
    XCTAssertEqual(text(POOL_ENOMEM), "out of memory")
    XCTAssertEqual(text(POOL_EPAUSED), "the pool is paused")
  }

  func testOtherNumbersAreUnknown() {
    for code in [1, 2, -16, Int32.max, Int32.min] { XCTAssertEqual(text(code), "unknown error code", "\(code)") }
  }

  func testTheTextsAreConstant() {
    XCTAssertEqual(ErrorText.of(POOL_ETIMEOUT), ErrorText.of(POOL_ETIMEOUT))
    XCTAssertEqual(poolStrerror(POOL_ETIMEOUT), ErrorText.of(POOL_ETIMEOUT))
  }

  func testTheVersionIsThatOfTheHeader() {
    XCTAssertEqual(
      poolVersion().map { String(cString: $0) }, "\(POOL_VERSION_MAJOR).\(POOL_VERSION_MINOR).\(POOL_VERSION_PATCH)")
    XCTAssertEqual(POOL_VERSION, "\(POOL_VERSION_MAJOR).\(POOL_VERSION_MINOR).\(POOL_VERSION_PATCH)")
  }
}

final class FailureTests: XCTestCase {
  func testCodeAndTextAreKept() {
    XCTAssertEqual(Failure.set(POOL_EINVAL, "what is wrong"), POOL_EINVAL)
    XCTAssertEqual(lastError.code, POOL_EINVAL)
    XCTAssertEqual(lastError.text, "what is wrong")
    XCTAssertEqual(Failure.set(POOL_ECLOSED), POOL_ECLOSED)
    XCTAssertEqual(lastError.text, "the pool is closed")
  }

  func testASystemErrorHasItsNumber() {
    XCTAssertEqual(Failure.system(EMFILE, "cannot open"), POOL_ESYSTEM)
    XCTAssertEqual(lastError.code, POOL_ESYSTEM)
    XCTAssertEqual(lastError.text, "cannot open: Too many open files (errno 24)")
  }

  func testALongTextIsCutWithinTheSlot() {
    Failure.set(POOL_EINVAL) { message in for _ in 0..<500 { message.append("ä12") } }
    XCTAssertEqual(lastError.text, String(repeating: "ä12", count: 199) + "ä1")
    XCTAssertEqual(lastError.text.utf8.count, Int(POOL_MESSAGE_SIZE) - 1)
  }

  func testEachThreadHasItsOwn() {
    Failure.set(POOL_EINVAL, "mine")
    inThreads(4) { index in
      XCTAssertEqual(lastError.code, POOL_OK)
      XCTAssertEqual(lastError.text, "")
      Failure.set(POOL_ECLOSED) { $0.append(index) }
      XCTAssertEqual(lastError.code, POOL_ECLOSED)
      XCTAssertEqual(lastError.text, "\(index)")
    }
    XCTAssertEqual(lastError.text, "mine")
  }
}
