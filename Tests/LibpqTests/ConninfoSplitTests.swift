import XCTest

@testable import Libpq

final class ConninfoSplitTests: XCTestCase {
  func testOwnKeysAreTakenOutOfKeywords() {
    let cases: [(String, String, [[String]])] = [
      ("", "", []),
      ("host=a", "host=a", []),
      ("pool_max_size=20", "", [["max_size", "20"]]),
      ("host=a pool_max_size=20 port=1", "host=a  port=1", [["max_size", "20"]]),
      ("host=a  pool_x = 'a b\\'c\\\\d'  port=1", "host=a    port=1", [["x", "a b'c\\d"]]),
      ("host='x'pool_a='1'pool_b=2 port=3", "host='x' port=3", [["a", "1"], ["b", "2"]]),
      ("pool_q=a\\ b\\'c d=1", " d=1", [["q", "a b'c"]]),
      ("password='pool_x=1' pool_y=''", "password='pool_x=1' ", [["y", ""]]),
      ("pool_=1", "", [["", "1"]]),
      ("pool_x=", "", [["x", ""]]),
      // As in libpq, blanks may follow the sign.
      ("pool_x= y=2", "", [["x", "y=2"]]),
      ("POOL_X=1 xpool_y=2", "POOL_X=1 xpool_y=2", []),
      ("pool_a=é", "", [["a", "é"]]),
    ]
    for (text, rest, options) in cases {
      XCTAssertEqual(split(text), Split(rest: rest, options: options), text)
    }
  }

  func testOwnKeysAreTakenOutOfURIs() {
    let cases: [(String, String, [[String]])] = [
      (
        "postgresql://h/d?pool_max_size=20&pool_check=ping", "postgresql://h/d?",
        [["max_size", "20"], ["check", "ping"]]
      ),
      ("postgres://h?a=1&pool_x=2&b=3", "postgres://h/?a=1&b=3", [["x", "2"]]),
      ("postgres://?pool_x=%20%2B+%c3%A9", "postgres:///?", [["x", " ++é"]]),
      ("postgres://?%70ool_%78=1", "postgres:///?", [["x", "1"]]),
      // A question mark in the password does not begin the query.
      ("postgresql://u:p?pool_x=1@h/d?pool_y=2", "postgresql://u:p?pool_x=1@h/d?", [["y", "2"]]),
      // But after a slash it does, as nobody can be named there any more.
      ("postgresql://u/p?pool_x=1@h", "postgresql://u/p?", [["x", "1@h"]]),
      ("postgresql://[::1]:5432,b:1/d?pool_x=1", "postgresql://[::1]:5432,b:1/d?", [["x", "1"]]),
      ("postgresql://[a?pool_x=1]/d?pool_y=1", "postgresql://[a?pool_x=1]/d?", [["y", "1"]]),
      // Without the slash added, `?host=h` would be a user now.
      ("postgresql://?pool_x=v/&host=h@", "postgresql:///?host=h@", [["x", "v/"]]),
      ("postgresql://h/d?pool_q=a b&x=1", "postgresql://h/d?x=1", [["q", "a b"]]),
      ("postgresql://h/d", "postgresql://h/d", []),
    ]
    for (text, rest, options) in cases {
      XCTAssertEqual(split(text), Split(rest: rest, options: options), text)
    }
  }

  func testFromAMistakeOnAllIsPassedOn() {
    let cases: [(String, String, [[String]])] = [
      ("pool_a=1 host pool_b=2", " host pool_b=2", [["a", "1"]]),
      ("pool_a=1 pool_b='x", " pool_b='x", [["a", "1"]]),
      ("pool_a", "pool_a", []),
      ("host='a pool_b=1", "host='a pool_b=1", []),
      ("postgres://?pool_a=1&pool_b&pool_c=2", "postgres:///?pool_b&pool_c=2", [["a", "1"]]),
      ("postgres://?pool_a=1=2&pool_c=2", "postgres://?pool_a=1=2&pool_c=2", []),
      ("postgres://?pool_a=%zz", "postgres://?pool_a=%zz", []),
      ("postgres://?pool_a=%0", "postgres://?pool_a=%0", []),
      ("postgres://?pool_a=%00", "postgres://?pool_a=%00", []),
      ("postgres://[::1?pool_a=1", "postgres://[::1?pool_a=1", []),
    ]
    for (text, rest, options) in cases {
      XCTAssertEqual(split(text), Split(rest: rest, options: options), text)
    }
  }

  func testARefusedOptionEndsTheSplit() {
    XCTAssertEqual(
      split("pool_a=1 pool_b=2 pool_c=3", refusing: "b"), Split(options: [["a", "1"], ["b", "2"]], isRefused: true))
    XCTAssertTrue(split("postgres://?pool_a=1&pool_b=2", refusing: "a").isRefused)
  }

  func testAnOutputThatIsTooSmallIsTold() {
    let source = Array("a=1".utf8)
    var output = [UInt8](repeating: 7, count: 3)
    let result = source.withUnsafeBufferPointer { source in
      output.withUnsafeMutableBufferPointer { splitConninfo(source, into: $0) { _, _ in true } }
    }
    XCTAssertEqual(result, .outputTooSmall)
    XCTAssertEqual(output, [7, 7, 7])
  }
}
