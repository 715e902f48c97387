import CPoolShims
import XCTest

@testable import Libpq

final class TargetsTests: XCTestCase {
  private struct Lists: Equatable {
    var host: String?
    var hostaddr: String?
    var port: String?
  }

  private enum Outcome: Equatable {
    case lists(Lists)
    case failed(String)
  }

  /// The lists after a mark at the target given as (host, address, port), as libpq would name it.
  private func resolve(_ conninfo: String, behind: (String?, String?, String)? = nil) -> Outcome {
    withEnvironment {
      let message = MessageBuffer()
      guard
        case .success(let parameters) = ConnectParameters.expand(
          conninfo: conninfo, fallbackApplicationName: nil, message: &message.message)
      else { return .failed("conninfo: " + message.text) }
      defer { parameters.free() }
      var mark = TargetMark()
      if let behind {
        guard case .success(let first) = Targets.resolve(parameters, startingBehind: mark, &message.message) else {
          return .failed(message.text)
        }
        mark = first.mark(host: behind.0, address: behind.1, port: behind.2)
        first.free()
      }
      guard case .success(let targets) = Targets.resolve(parameters, startingBehind: mark, &message.message) else {
        return .failed(message.text)
      }
      defer { targets.free() }
      XCTAssertTrue(message.message.isEmpty)
      return .lists(
        Lists(host: value("host", targets), hostaddr: value("hostaddr", targets), port: value("port", targets)))
    }
  }

  private func value(_ keyword: String, _ targets: Targets) -> String? {
    var found: String?
    var index = 0
    while let name = targets.keywords[index], let value = targets.values[index] {
      if String(cString: name) == keyword {
        XCTAssertNil(found, "\(keyword) is given twice")
        found = String(cString: value)
        XCTAssertNotEqual(found, "")
      }
      index += 1
    }
    return found
  }

  func testWhatNeedsNoLookupStaysAsItIs() {
    XCTAssertEqual(resolve(""), .lists(Lists(port: "5432")))
    XCTAssertEqual(resolve("host=/tmp"), .lists(Lists(host: "/tmp", port: "5432")))
    XCTAssertEqual(resolve("host=/tmp,@x port=1,2"), .lists(Lists(host: "/tmp,@x", port: "1,2")))
    XCTAssertEqual(resolve("host=/tmp, port=1"), .lists(Lists(host: "/tmp,", port: "1,1")))
    XCTAssertEqual(
      resolve("hostaddr=1.1.1.1,::1"), .lists(Lists(host: ",", hostaddr: "1.1.1.1,::1", port: "5432,5432")))
    XCTAssertEqual(
      resolve("host=a,b hostaddr=1.1.1.1,2.2.2.2 port=1,"),
      .lists(Lists(host: "a,b", hostaddr: "1.1.1.1,2.2.2.2", port: "1,")))
  }

  func testNamesBecomeAddresses() {
    XCTAssertEqual(
      resolve("host=127.0.0.1,/tmp,::1 port=1,2,3"),
      .lists(Lists(host: "127.0.0.1,/tmp,::1", hostaddr: "127.0.0.1,,::1", port: "1,2,3")))
    guard case .lists(let lists) = resolve("host=localhost") else { return XCTFail("localhost is unknown") }
    let addresses = lists.hostaddr?.split(separator: ",") ?? []
    XCTAssertTrue(addresses.contains("127.0.0.1"))
    XCTAssertEqual(Set(addresses).count, addresses.count)
    XCTAssertEqual(lists.host?.split(separator: ",").count, addresses.count)
  }

  func testAHostThatIsUnknownIsLeftOutWhileAnotherIsKnown() {
    XCTAssertEqual(
      resolve("host=no.such.host.invalid,127.0.0.1 port=1,2"),
      .lists(Lists(host: "127.0.0.1", hostaddr: "127.0.0.1", port: "2")))
    guard case .failed(let text) = resolve("host=no.such.host.invalid") else { return XCTFail("resolved") }
    XCTAssertTrue(text.hasPrefix("could not translate host name \"no.such.host.invalid\" to address: "), text)
    let long = String(repeating: "x", count: 3000)
    guard case .failed = resolve("host=\(long)") else { return XCTFail("resolved") }
  }

  func testTheListStartsBehindTheMark() {
    let conninfo = "host=127.0.0.1,127.0.0.2,/tmp,::1 port=1,2,3,4"
    func rotated(_ host: String, _ hostaddr: String, _ port: String) -> Outcome {
      .lists(Lists(host: host, hostaddr: hostaddr, port: port))
    }
    XCTAssertEqual(
      resolve(conninfo, behind: ("127.0.0.1", "127.0.0.1", "1")),
      rotated("127.0.0.2,/tmp,::1,127.0.0.1", "127.0.0.2,,::1,127.0.0.1", "2,3,4,1"))
    XCTAssertEqual(
      resolve(conninfo, behind: ("/tmp", nil, "3")),
      rotated("::1,127.0.0.1,127.0.0.2,/tmp", "::1,127.0.0.1,127.0.0.2,", "4,1,2,3"))
    XCTAssertEqual(
      resolve(conninfo, behind: ("::1", "0:0:0:0:0:0:0:1", "4")),
      rotated("127.0.0.1,127.0.0.2,/tmp,::1", "127.0.0.1,127.0.0.2,,::1", "1,2,3,4"))
    XCTAssertEqual(
      resolve(conninfo, behind: ("gone", "9.9.9.9", "4")),
      rotated("127.0.0.1,127.0.0.2,/tmp,::1", "127.0.0.1,127.0.0.2,,::1", "1,2,3,4"))
    XCTAssertEqual(
      resolve("host=,127.0.0.1 port=1,2", behind: ("/var/run/postgresql", "", "1")),
      rotated("127.0.0.1,", "127.0.0.1,", "2,1"))
  }

  func testTwoNamesOfOneAddressAreTwoTargets() {
    XCTAssertEqual(
      resolve("host=a,b,c hostaddr=1.1.1.1,1.1.1.1,2.2.2.2", behind: ("b", "1.1.1.1", "5432")),
      .lists(Lists(host: "c,a,b", hostaddr: "2.2.2.2,1.1.1.1,1.1.1.1", port: "5432,5432,5432")))
    // Otherwise the attempt behind the first would begin with the same again, for ever.
    XCTAssertEqual(
      resolve("host=a,a,c hostaddr=1.1.1.1,1.1.1.1,2.2.2.2"),
      .lists(Lists(host: "a,c", hostaddr: "1.1.1.1,2.2.2.2", port: "5432,5432")))
  }
}
