//! The program of the target `http2_front`; what it tries is in `src/targets/http2_front.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("http2_front", input));
