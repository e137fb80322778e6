//! The program of the target `policy`; what it tries is in `src/targets/policy.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("policy", input));
