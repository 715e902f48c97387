import XCTest

@testable import Libpq

final class PinnedOptionsTests: XCTestCase {
  private func withHome<T>(_ home: String, _ body: () throws -> T) rethrows -> T {
    let saved = ProcessInfo.processInfo.environment["HOME"]
    setenv("HOME", home, 1)
    defer {
      unsetenv("HOME")
      if let saved { setenv("HOME", saved, 1) }
    }
    return try withEnvironment([:], body)
  }

  func testWhatIsSetNowhereIsPassedOnAsNothing() {
    withHome("/some/home") {
      let empty = expand("host=h").values?["(empty)"] ?? ""
      for keyword in ["hostaddr", "client_encoding", "password", "sslcrl", "requirepeer", "options"] {
        XCTAssertTrue(empty.contains("\(keyword)='' "), keyword)
      }
      XCTAssertFalse(empty.contains("service="))
      XCTAssertFalse(empty.contains("application_name="))
    }
  }

  func testFilesOfTheHomeFolderAreNamed() {
    withHome("/some/home") {
      let values = expand("sslkey=/mine").values
      XCTAssertEqual(values?["passfile"], "/some/home/.pgpass")
      XCTAssertEqual(values?["sslcert"], "/some/home/.postgresql/postgresql.crt")
      XCTAssertEqual(values?["sslrootcert"], "/some/home/.postgresql/root.crt")
      XCTAssertEqual(values?["sslkey"], "/mine")
    }
  }

  func testTheApplicationsNameIsSettled() {
    withHome("/some/home") {
      XCTAssertEqual(expand("").values?["application_name"], "fallback")
      XCTAssertEqual(expand("fallback_application_name=mine").values?["application_name"], "mine")
      XCTAssertEqual(expand("application_name=app").values?["application_name"], "app")
    }
  }
}
