import XCTest

@testable import Libpq

final class ConninfoErrorsTests: XCTestCase {
  /// Mistyped in every way that makes libpq quote the conninfo. The canary is made of pieces that must not be shown.
  func testNoPartOfAPasswordIsShown() {
    let conninfos = [
      "postgresql://u:s3cret@h:p0rt/d?x",
      "postgresql://u:s3cret@h/d?bogus=1",
      "postgresql://u:s3cret x@h/d",
      "postgresql://u:s3cret%zz@h/d",
      "postgresql://u:%00s3cret@h/d",
      "postgresql://u:s3cret/x@h/d",
      "postgresql://u:s3/cret?s3cret=1@h/d",
      "postgresql://u:s3/cret?s3cret@h/d",
      "postgresql://u:a@s3cret@h/d?bogus",
      "postgresql://u:[s3cret@h",
      "postgresql://u:a@[s3cret",
      "postgresql://[s3cret@h",
      "postgresql://u:s3cret",
      "postgresql://u:s3cret/d",
      "postgresql://u:s3cret,b:1/d",
      "postgresql://u:1/s3cret?s3cret=2@h",
      "postgresql://h/d?password=s3cret%",
      "postgresql://h/d?password=s3cret=x",
      "postgresql://h/d?password=x&s3cret",
      "postgresql://h/d?password=x&s3cret=1",
      "postgresql://h/d?pass%77ord=x&s3cret=1",
      "postgresql://h/d?sslpassword=x&s3cret=1",
      "postgresql://h/d?pasword=s3cret&bogus",
      "postgresql://h/d?sslmode=x&password=s3cret",
      "postgres://h/d?PASSWORD=s3cret",
      "password=x s3cret",
      "password=x s3cret=1",
      "password=x 's3cret' y",
      "password = x s3cret",
      "host=h password='it''s3cret'",
      "host=h password='s3cret",
      "host=h password=s3cret sslmode=bogus",
      "host=h sslmode=bogus password=s3cret",
      "host=h sslmode='s3cret' password=s3cret",
      "host=h sslpassword=x s3cret=y",
      "host=h passwort=s3cret",
      "host=h pwd=x s3cret=1",
      "host=h pw x s3cret",
      "host=a,b hostaddr=1.1.1.1 password=s3cret",
      "password=s3cret target_session_attrs=bogus",
      "password=s3cret port=s3cret",
      "password=x port=s3cret",
      "password=s3cret keepalives=s3cret",
      "service=s3cret password=s3cret",
      "password=a\"s3cret\" x",
      "password=a' s3cret' s3cret=x",
      "postgresql+psycopg2://u:s3cret@h/d",
      "jdbc:postgresql://u:s3cret@h/d",
      "PostgreSQL://u:s3cret@h/d",
      " postgresql://u:s3cret@h/d",
      "\"postgresql://u:s3cret@h/d\"",
      "postgres:/u:s3cret@h/d",
      "u:s3cret@h/d",
      "mysql://u:s3cret",
      "host=h;password=s3cret",
      "host=a,h;password=s3cret dbname=d",
    ]
    var refused = 0
    for conninfo in conninfos {
      withEnvironment {
        // Which of them are mistakes differs between versions of libpq.
        guard let error = expand(conninfo).error else { return }
        refused += 1
        for piece in ["s3cret", "3cre", "s3/", "cret"] {
          XCTAssertFalse(error.contains(piece), "\(conninfo): \(error)")
        }
        XCTAssertFalse(error.isEmpty, conninfo)
        XCTAssertFalse(error.contains("\n"), conninfo)
        XCTAssertFalse(error.contains("probe"), conninfo)
      }
    }
    XCTAssertGreaterThan(refused, conninfos.count - 6)
  }

  func testWithoutAPasswordTheMistakeIsNamed() {
    let cases = [
      ("hots=a", "invalid connection option \"hots\""),
      ("host=a hots=b password=x", "invalid connection option \"hots\""),
      ("host", "missing \"=\" after \"host\" in connection info string"),
      ("host='a", "unterminated quoted string in connection info string"),
      ("sslmode=bogus", "invalid sslmode value: \"bogus\""),
      ("postgresql://u:pw@h/d?bogus=1", "invalid URI query parameter: \"bogus\""),
      ("postgresql://h/d?bogus=1", "invalid URI query parameter: \"bogus\""),
      ("host=a,b port=1,2,3", "could not match 3 port numbers to 2 hosts"),
      ("service=nosuch", "definition of service \"nosuch\" not found"),
      ("port=70000", "invalid port number (1 to 65535)"),
      ("port=1,x host=a,b", "invalid port number (1 to 65535)"),
      ("keepalives_idle=x", "invalid integer value for connection option \"keepalives_idle\""),
      (
        "target_session_attrs=write",
        "invalid target_session_attrs value (any, read-write, read-only, primary, standby or prefer-standby)"
      ),
    ]
    for (conninfo, text) in cases {
      withEnvironment { XCTAssertEqual(expand(conninfo).error, text, conninfo) }
    }
  }

  func testTheKindOfMistakeIsKeptWhenItsTextIsNot() {
    withEnvironment {
      XCTAssertEqual(expand("password=x hots=1").error, "invalid connection option \"...\"")
      XCTAssertEqual(expand("password=x hots").error, "missing \"...\" in connection info string")
    }
  }

  func testWordsInAnotherLanguageAreLeftOutBesideAPassword() {
    let buffer = MessageBuffer()
    let conninfo = Array("password=x s3cret".utf8)
    conninfo.withUnsafeBufferPointer {
      buffer.message.appendConninfoError("« = » manquant après « s3cret »", conninfo: $0)
    }
    XCTAssertEqual(buffer.text, "invalid connection string (what is wrong could quote the password)")
  }
}
