//! The program of the target `exec_message`; what it tries is in `src/targets/exec_message.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| op_dbus_fuzz::feed("exec_message", input));
