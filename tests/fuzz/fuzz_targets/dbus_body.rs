//! The program of the target `dbus_body`; what it tries is in `src/targets/dbus_body.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("dbus_body", input));
