import CDBPool

/// Ties each export to its declaration in `dbpool.h`: `@_cdecl` checks no signature. Every function stands here twice
/// with one type, as the header declares it and as it is exported; where they differ this file does not compile.
/// Tests/build sees to it that none is missing.
private func signatures() {
  let _: @convention(c) (UnsafeMutablePointer<pool_options_t>?, Int) -> CInt = pool_options_init
  let _: @convention(c) (UnsafeMutablePointer<pool_options_t>?, Int) -> CInt = poolOptionsInit
  let _: @convention(c) (UnsafePointer<CChar>?, UnsafePointer<pool_options_t>?) -> OpaquePointer? = pool_create
  let _: @convention(c) (UnsafePointer<CChar>?, UnsafePointer<pool_options_t>?) -> OpaquePointer? = poolCreate
  let _: @convention(c) (OpaquePointer?, CInt) -> UnsafeMutableRawPointer? = pool_get
  let _: @convention(c) (OpaquePointer?, CInt) -> UnsafeMutableRawPointer? = poolGet
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = pool_put
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = poolPut
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_close
  let _: @convention(c) (OpaquePointer?) -> CInt = poolClose
  let _: @convention(c) (OpaquePointer?, CInt, UnsafeMutablePointer<pool_ticket_t>?) -> CInt = pool_get_start
  let _: @convention(c) (OpaquePointer?, CInt, UnsafeMutablePointer<pool_ticket_t>?) -> CInt = poolGetStart
  let _: @convention(c) (OpaquePointer?, pool_ticket_t, CInt) -> UnsafeMutableRawPointer? = pool_get_wait
  let _: @convention(c) (OpaquePointer?, pool_ticket_t, CInt) -> UnsafeMutableRawPointer? = poolGetWait
  let _: @convention(c) (OpaquePointer?, pool_ticket_t) -> CInt = pool_get_cancel
  let _: @convention(c) (OpaquePointer?, pool_ticket_t) -> CInt = poolGetCancel
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = pool_discard
  let _: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = poolDiscard
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = pool_wait
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = poolWait
  let _: @convention(c) (OpaquePointer?, CInt, CInt) -> CInt = pool_resize
  let _: @convention(c) (OpaquePointer?, CInt, CInt) -> CInt = poolResize
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_pause
  let _: @convention(c) (OpaquePointer?) -> CInt = poolPause
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_resume
  let _: @convention(c) (OpaquePointer?) -> CInt = poolResume
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = pool_drain
  let _: @convention(c) (OpaquePointer?, CInt) -> CInt = poolDrain
  let _: @convention(c) (OpaquePointer?) -> CInt = pool_reconnect
  let _: @convention(c) (OpaquePointer?) -> CInt = poolReconnect
  let _: @convention(c) (OpaquePointer?, UnsafeMutablePointer<pool_stats_t>?) -> CInt = pool_stats
  let _: @convention(c) (OpaquePointer?, UnsafeMutablePointer<pool_stats_t>?) -> CInt = poolStats
  let _: @convention(c) () -> CInt = pool_errcode
  let _: @convention(c) () -> CInt = poolErrcode
  let _: @convention(c) () -> UnsafePointer<CChar>? = pool_errmsg
  let _: @convention(c) () -> UnsafePointer<CChar>? = poolErrmsg
  let _: @convention(c) (CInt) -> UnsafePointer<CChar>? = pool_strerror
  let _: @convention(c) (CInt) -> UnsafePointer<CChar>? = poolStrerror
  let _: @convention(c) () -> UnsafePointer<CChar>? = pool_version
  let _: @convention(c) () -> UnsafePointer<CChar>? = poolVersion
}
