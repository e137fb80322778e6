//! The program of the target `json_form`; what it tries is in `src/targets/json_form.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("json_form", input));
