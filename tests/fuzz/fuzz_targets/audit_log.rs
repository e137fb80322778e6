//! The program of the target `audit_log`; what it tries is in `src/targets/audit_log.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("audit_log", input));
