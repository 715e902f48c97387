import XCTest

@testable import Libpq

final class ConnectParametersTests: XCTestCase {
  func testEmptyConninfoIsTheDefaults() {
    for conninfo in ["", "  "] {
      withEnvironment(["PGUSER": "u"]) {
        let values = expand(conninfo).values
        XCTAssertEqual(values?["user"], "u")
        XCTAssertEqual(values?["dbname"], "u")
        XCTAssertEqual(values?["port"], "5432")
        XCTAssertNil(values?["host"])
        XCTAssertNil(values?["password"])
        XCTAssertEqual(values?["target_session_attrs"], "any")
        XCTAssertEqual(values?["fallback_application_name"], "fallback")
        XCTAssertEqual(values?["keepalives_idle"], "30")
        XCTAssertEqual(values?["keepalives_interval"], "10")
        XCTAssertEqual(values?["keepalives_count"], "3")
        XCTAssertEqual(values?["tcp_user_timeout"], "30000")
      }
    }
  }

  func testWhatTheUserSetIsKept() {
    withEnvironment(["PGUSER": "u"]) {
      let values = expand(
        "host=h,i port=1,2 password='a b' dbname='x=y' target_session_attrs=standby keepalives_idle=7 tcp_user_timeout=0 "
          + "fallback_application_name=mine"
      ).values
      XCTAssertEqual(values?["host"], "h,i")
      XCTAssertEqual(values?["port"], "1,2")
      XCTAssertEqual(values?["password"], "a b")
      XCTAssertEqual(values?["dbname"], "x=y")
      XCTAssertEqual(values?["target_session_attrs"], "standby")
      XCTAssertEqual(values?["keepalives_idle"], "7")
      XCTAssertEqual(values?["keepalives_count"], "3")
      XCTAssertEqual(values?["tcp_user_timeout"], "0")
      XCTAssertEqual(values?["fallback_application_name"], "mine")
      XCTAssertFalse(values?.values.contains("") ?? true)
    }
  }

  func testURIsAreTakenApart() {
    withEnvironment {
      let values = expand("postgres://us%65r:p%20w@h1:1,[::1]:2/db?application_name=app").values
      XCTAssertEqual(values?["user"], "user")
      XCTAssertEqual(values?["password"], "p w")
      XCTAssertEqual(values?["host"], "h1,::1")
      XCTAssertEqual(values?["port"], "1,2")
      XCTAssertEqual(values?["dbname"], "db")
      XCTAssertEqual(values?["application_name"], "app")
    }
  }

  func testTheEnvironmentFillsWhatIsNotSet() {
    withEnvironment(["PGHOST": "envhost", "PGPASSWORD": "envpw", "PGPORT": "7", "PGTARGETSESSIONATTRS": "primary"]) {
      let values = expand("port=8").values
      XCTAssertEqual(values?["host"], "envhost")
      XCTAssertEqual(values?["password"], "envpw")
      XCTAssertEqual(values?["port"], "8")
      XCTAssertEqual(values?["target_session_attrs"], "primary")
    }
  }

  func testTheServiceFileIsRead() throws {
    let text = "[one]\nhost=svchost\npassword=svcpw\nport=9\nconnect_timeout=4\ntarget_session_attrs=read-write\n"
    try withTemporaryFile(text) { path in
      withEnvironment(["PGSERVICEFILE": path]) {
        guard case .success(let values, let timeout, _) = expand("service=one port=8") else {
          return XCTFail("refused")
        }
        XCTAssertEqual(values["host"], "svchost")
        XCTAssertEqual(values["password"], "svcpw")
        XCTAssertEqual(values["port"], "8")
        XCTAssertEqual(values["target_session_attrs"], "read-write")
        XCTAssertEqual(timeout, 4)
        XCTAssertNil(values["service"])
      }
      withEnvironment(["PGSERVICEFILE": path, "PGSERVICE": "one"]) {
        XCTAssertEqual(expand("").values?["host"], "svchost")
      }
    }
  }

  func testSetToNothingKeepsTheEnvironmentOut() {
    withEnvironment(["PGPASSWORD": "envpw", "PGAPPNAME": "envapp"]) {
      let values = expand("password='' application_name=''").values
      XCTAssertNil(values?["password"])
      XCTAssertNil(values?["application_name"])
      XCTAssertTrue(values?["(empty)"]?.contains("password='' ") ?? false)
      XCTAssertTrue(values?["(empty)"]?.contains("application_name='' ") ?? false)
    }
  }

  func testConnectTimeoutIsReadAndNotPassedOn() {
    let cases: [(String, Int?)] = [
      ("", nil), ("connect_timeout=5", 5), ("connect_timeout=0", nil), ("connect_timeout=-1", nil),
    ]
    for (conninfo, expected) in cases {
      withEnvironment {
        guard case .success(let values, let timeout, _) = expand(conninfo) else { return XCTFail("refused") }
        XCTAssertEqual(timeout, expected, conninfo)
        XCTAssertNil(values["connect_timeout"])
      }
    }
    withEnvironment(["PGCONNECT_TIMEOUT": "6"]) {
      guard case .success(_, let timeout, _) = expand("") else { return XCTFail("refused") }
      XCTAssertEqual(timeout, 6)
    }
  }

  func testTLSIsPossibleOverTCPOnly() {
    let cases = [
      ("", false), ("host=/tmp", false), ("host=@abstract", false), ("host=h", true), ("hostaddr=1.1.1.1", true),
      ("host=h sslmode=disable", false), ("host=/tmp,h", true), ("host=/tmp, port=1,2", false),
    ]
    for (conninfo, expected) in cases {
      withEnvironment {
        guard case .success(_, _, let usesTLS) = expand(conninfo) else { return XCTFail("refused: \(conninfo)") }
        XCTAssertEqual(usesTLS, expected, conninfo)
      }
    }
  }

  func testEveryOneOfLibpqsExamplesIsAccepted() {
    let examples = [
      "postgresql://", "postgresql://localhost", "postgresql://localhost:5433", "postgresql://localhost/mydb",
      "postgresql://user@localhost", "postgresql://user:secret@localhost",
      "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
      "postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp",
      "postgresql:///mydb?host=localhost&port=5433", "postgresql://[2001:db8::1234]/database",
      "postgresql:///dbname?host=/var/lib/postgresql", "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
      "host=localhost port=5432 dbname=mydb connect_timeout=10",
    ]
    for example in examples {
      withEnvironment { XCTAssertNotNil(expand(example).values, "\(example): \(expand(example).error ?? "")") }
    }
  }
}
