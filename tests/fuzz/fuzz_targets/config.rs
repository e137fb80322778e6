//! The program of the target `config`; what it tries is in `src/targets/config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("config", input));
