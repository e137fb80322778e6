//! Tasks of the first generation's Executor as commands, and what came of them as it said it. The program
//! runs with the caller's rights and confined, so its list of eighteen programs is not kept.

use serde_json::{Value, json};

use super::super::names::Arguments;
use crate::error::Error;

/// The time for a program that none is named for, and the longest, in seconds.
const TIMEOUT: u64 = 30;
const MAX_TIMEOUT: u64 = 300;

/// What the call may take beside the program's own time, in seconds.
const MARGIN: u64 = 5;

/// What a shell would read as more than a part of a word. There is no shell, so who writes them does not
/// get what he expects.
const FOR_A_SHELL: &[char] =
    &['$', '`', ';', '&', '|', '<', '>', '(', ')', '{', '}', '\'', '"', '\\', '\n', '\r'];

/// Translates `command`, `args`, `timeout` (seconds) and `working_dir`; or `command_line` in place of the
/// first two. What has neither is taken to be in the words of the commands agent.
pub(in crate::compat) fn executed(arguments: &mut Arguments) -> (&'static str, Result<(), Error>) {
    ("exec", program(arguments))
}

fn program(arguments: &mut Arguments) -> Result<(), Error> {
    let argv = match (arguments.remove("command"), arguments.remove("command_line")) {
        (None, None) => return Ok(()),
        (Some(_), Some(_)) => return Err(Error::invalid("args", "command is given already")),
        (Some(command), None) => {
            let mut argv = vec![command];
            match arguments.remove("args") {
                None => {}
                Some(Value::Array(args)) => argv.extend(args),
                Some(_) => return Err(Error::invalid("args", "must be a list of texts")),
            }
            argv
        }
        (None, Some(line)) => split(line.as_str().unwrap_or_default())?,
    };
    let seconds = seconds(arguments)?;
    arguments.remove("timeout");
    arguments.insert("argv".to_owned(), argv.into());
    if let Some(directory) = arguments.remove("working_dir") {
        arguments.insert("directory".to_owned(), directory);
    }
    let limits = json!({ "limits": { "wall": format!("{seconds}s") } });
    arguments.entry("run").or_insert(limits);
    let longest = format!("{}s", seconds + MARGIN);
    arguments.entry("yield").or_insert_with(|| json!(longest));
    Ok(())
}

/// How long the call of a task may take, in seconds.
///
/// # Errors
/// `InvalidArgument` if its program may not take so long.
pub(super) fn time(arguments: &Arguments) -> Result<u64, Error> {
    Ok(seconds(arguments)? + 2 * MARGIN)
}

fn seconds(arguments: &Arguments) -> Result<u64, Error> {
    let Some(timeout) = arguments.get("timeout") else { return Ok(TIMEOUT) };
    timeout.as_u64().filter(|seconds| (1..=MAX_TIMEOUT).contains(seconds)).ok_or_else(|| {
        Error::invalid("timeout", format!("must be a number of seconds from 1 to {MAX_TIMEOUT}"))
    })
}

fn split(line: &str) -> Result<Vec<Value>, Error> {
    if line.contains(FOR_A_SHELL) {
        return Err(Error::invalid(
            "args",
            "are split at blanks and go to no shell, so quotes and the like mean nothing; give command \
             and args, a list, in config",
        ));
    }
    Ok(line.split_whitespace().map(Value::from).collect())
}

/// What came of a program, as the Executor says it.
pub(super) fn ended(response: &Value) -> Value {
    let ended = &response["command"]["ended"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = ended["code"].as_i64();
    let [limit, signal, problem] = ["limit", "signal", "problem"].map(|name| text(&ended[name]));
    let error = if response["running"] == true {
        Some(format!("it goes on as the command {}", text(&response["command"]["id"])))
    } else if !limit.is_empty() {
        Some(format!("{limit} ({}) was reached", text(&ended["limit_value"])))
    } else if !signal.is_empty() {
        Some(format!("the signal {signal} ended it"))
    } else if code.is_none() {
        Some(problem)
    } else {
        None
    };
    json!({
        "success": code == Some(0) && error.is_none(),
        "exit_code": code,
        "stdout": response["stdout"]["text"],
        "stderr": response["stderr"]["text"],
        "error": error,
    })
}

/// What came of a program that did not run.
pub(super) fn refused(error: &str) -> Value {
    json!({ "success": false, "exit_code": null, "stdout": "", "stderr": "", "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(arguments: Value) -> Result<Value, Error> {
        let Value::Object(mut arguments) = arguments else { panic!("no object") };
        program(&mut arguments)?;
        Ok(arguments.into())
    }

    #[test]
    fn a_command_becomes_its_arguments_and_its_time_a_limit() {
        let given =
            json!({"command": "ls", "args": ["-l", "a b"], "timeout": 2, "working_dir": "/"});
        let expected = json!({
            "argv": ["ls", "-l", "a b"], "directory": "/", "yield": "7s",
            "run": {"limits": {"wall": "2s"}}
        });
        assert_eq!(translated(given).unwrap(), expected);
        let line = translated(json!({"command_line": " wc  -l x "})).unwrap();
        assert_eq!(line["argv"], json!(["wc", "-l", "x"]));
        assert_eq!(translated(json!({"argv": ["ls"]})).unwrap(), json!({"argv": ["ls"]}));
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for given in [
            json!({"command_line": "echo 'a b'"}),
            json!({"command_line": "a; b"}),
            json!({"command": "ls", "command_line": "ls"}),
            json!({"command": "ls", "args": "-l"}),
            json!({"command": "ls", "timeout": 301}),
            json!({"command": "ls", "timeout": "1"}),
        ] {
            assert!(translated(given.clone()).is_err(), "{given}");
        }
    }
}
