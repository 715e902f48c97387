import CDBPool

/// Ties each export to its declaration in `dbpool.h`: `@_cdecl` checks no signature. Every function stands here twice
/// with one type, as the header declares it and as it is exported; where they differ this file does not compile.
/// Tests/build sees to it that none is missing. The exports are named as Swift functions: as C functions, the compiler
/// would define each once more in this file, and without whole-module compilation nothing could be linked.
private func signatures() {
  typealias Text = UnsafePointer<CChar>?
  typealias Tokens = UnsafeMutablePointer<UnsafeMutableRawPointer?>?
  let _: @convention(c) (UnsafeMutablePointer<pool_options_t>?, Int) -> CInt = pool_options_init
  let _: (UnsafeMutablePointer<pool_options_t>?, Int) -> CInt = poolOptionsInit
  let _: @convention(c) (UnsafePointer<CChar>?, UnsafePointer<pool_options_t>?) -> OpaquePointer? = pool_create
  let _: (UnsafePointer<CChar>?, UnsafePointer<pool_options_t>?) -> OpaquePointer? = poolCreate
  let _: @convention(c) (OpaquePointer?, CInt) -> UnsafeMutableRawPointer? = pool_get
  let _: (OpaquePointer?, CInt) -> UnsafeMutableRawPointer? = poolGet
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = pool_put
  let _: (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = poolPut
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_close
  let _: (OpaquePointer?) -> CInt = poolClose
  let _: @convention(c) (OpaquePointer?, CInt, UnsafeMutablePointer<pool_ticket_t>?) -> CInt = pool_get_start
  let _: (OpaquePointer?, CInt, UnsafeMutablePointer<pool_ticket_t>?) -> CInt = poolGetStart
  let _: @convention(c) (OpaquePointer?, pool_ticket_t, CInt) -> UnsafeMutableRawPointer? = pool_get_wait
  let _: (OpaquePointer?, pool_ticket_t, CInt) -> UnsafeMutableRawPointer? = poolGetWait
  let _: @convention(c) (OpaquePointer?, pool_ticket_t) -> CInt = pool_get_cancel
  let _: (OpaquePointer?, pool_ticket_t) -> CInt = poolGetCancel
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = pool_discard
  let _: (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = poolDiscard
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?, Text) -> CInt = pool_report
  let _: (OpaquePointer?, UnsafeMutableRawPointer?, Text) -> CInt = poolReport
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = pool_wait
  let _: (OpaquePointer?, CInt) -> CInt = poolWait
  let _: @convention(c) (OpaquePointer?, CInt, CInt) -> CInt = pool_resize
  let _: (OpaquePointer?, CInt, CInt) -> CInt = poolResize
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_pause
  let _: (OpaquePointer?) -> CInt = poolPause
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_resume
  let _: (OpaquePointer?) -> CInt = poolResume
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = pool_drain
  let _: (OpaquePointer?, CInt) -> CInt = poolDrain
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_reconnect
  let _: (OpaquePointer?) -> CInt = poolReconnect
  let _: @convention(c) (UnsafePointer<pool_options_t>?) -> OpaquePointer? = pool_create_hosted
  let _: (UnsafePointer<pool_options_t>?) -> OpaquePointer? = poolCreateHosted
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?, CInt) -> CInt = pool_adopt
  let _: (OpaquePointer?, UnsafeMutableRawPointer?, CInt) -> CInt = poolAdopt
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?, Text, Text) -> CInt = pool_fail
  let _: (OpaquePointer?, UnsafeMutableRawPointer?, Text, Text) -> CInt = poolFail
  let _: @convention(c) (OpaquePointer?, Tokens, CInt, CInt) -> CInt = pool_collect
  let _: (OpaquePointer?, Tokens, CInt, CInt) -> CInt = poolCollect
  let _: @convention(c) (OpaquePointer?, UnsafeMutablePointer<pool_stats_t>?) -> CInt = pool_stats
  let _: (OpaquePointer?, UnsafeMutablePointer<pool_stats_t>?) -> CInt = poolStats
  let _: @convention(c) () -> CInt = pool_errcode
  let _: () -> CInt = poolErrcode
  let _: @convention(c) () -> UnsafePointer<CChar>? = pool_errmsg
  let _: () -> UnsafePointer<CChar>? = poolErrmsg
  let _: @convention(c) (CInt) -> UnsafePointer<CChar>? = pool_strerror
  let _: (CInt) -> UnsafePointer<CChar>? = poolStrerror
  let _: @convention(c) () -> UnsafePointer<CChar>? = pool_version
  let _: () -> UnsafePointer<CChar>? = poolVersion
}
