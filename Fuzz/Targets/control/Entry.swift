internal import FuzzControl
internal import FuzzSupport

@_cdecl("LLVMFuzzerTestOneInput")
func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(start, count) { try ControlCheck.check($0) }
}
