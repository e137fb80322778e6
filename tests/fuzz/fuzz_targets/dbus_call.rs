//! The program of the target `dbus_call`; what it tries is in `src/targets/dbus_call.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("dbus_call", input));
