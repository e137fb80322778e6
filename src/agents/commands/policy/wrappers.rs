//! Programs that do nothing but run another one, and how they are told which. An option that is not
//! known here could take the next argument for itself, so it makes the whole thing unclear.

use super::layers::{Inner, Layer};
use crate::process::environment;

/// How a program that runs another one takes its arguments.
#[derive(Default)]
struct Wrapper {
    name: &'static str,
    /// Options of one letter that take nothing, ...
    flags: &'static str,
    /// ... the next argument or the rest of this one, ...
    valued: &'static str,
    /// ... or the rest of this one if there is one.
    optional: &'static str,
    /// The same for those with names; what takes something may have it after a `=`.
    long: &'static [&'static str],
    long_valued: &'static [&'static str],
    /// A number may stand as an option, as in `nice -5`.
    is_numbered: bool,
    /// It takes variables before the program.
    takes_variables: bool,
    /// How many arguments come before the program.
    operands: usize,
    /// Options after which it runs the program elsewhere.
    elsewhere: &'static [&'static str],
}

const WRAPPERS: &[Wrapper] = &[
    Wrapper { name: "busybox", ..NOTHING },
    Wrapper { name: "toybox", ..NOTHING },
    Wrapper { name: "nohup", ..NOTHING },
    Wrapper { name: "doas", flags: "nL", valued: "uC", ..NOTHING },
    Wrapper {
        name: "env",
        flags: "i0v",
        valued: "uCa",
        long: &[
            "ignore-environment",
            "null",
            "debug",
            "block-signal",
            "default-signal",
            "ignore-signal",
            "list-signal-handling",
        ],
        long_valued: &["unset", "chdir", "argv0"],
        takes_variables: true,
        elsewhere: &["C", "chdir"],
        ..NOTHING
    },
    Wrapper {
        name: "flock",
        flags: "sxeunoFv",
        valued: "wE",
        long: &["shared", "exclusive", "unlock", "nonblock", "nb", "close", "no-fork", "verbose"],
        long_valued: &["timeout", "wait", "conflict-exit-code"],
        operands: 1,
        ..NOTHING
    },
    Wrapper {
        name: "ionice",
        flags: "t",
        valued: "cnpPu",
        long: &["ignore"],
        long_valued: &["class", "classdata", "pid", "pgid", "uid"],
        ..NOTHING
    },
    Wrapper {
        name: "nice",
        valued: "n",
        long_valued: &["adjustment"],
        is_numbered: true,
        ..NOTHING
    },
    Wrapper { name: "setsid", flags: "cfw", long: &["ctty", "fork", "wait"], ..NOTHING },
    Wrapper {
        name: "stdbuf",
        valued: "ioe",
        long_valued: &["input", "output", "error"],
        ..NOTHING
    },
    Wrapper {
        name: "sudo",
        flags: "ABbEHknPS",
        valued: "CDghpRrTtUu",
        long: &[
            "askpass",
            "background",
            "bell",
            "preserve-env",
            "set-home",
            "reset-timestamp",
            "non-interactive",
            "preserve-groups",
            "stdin",
        ],
        long_valued: &[
            "close-from",
            "chdir",
            "group",
            "host",
            "prompt",
            "chroot",
            "role",
            "command-timeout",
            "type",
            "other-user",
            "user",
        ],
        takes_variables: true,
        elsewhere: &["D", "R", "chdir", "chroot"],
        ..NOTHING
    },
    Wrapper {
        name: "taskset",
        flags: "acp",
        long: &["all-tasks", "cpu-list", "pid"],
        operands: 1,
        ..NOTHING
    },
    Wrapper {
        name: "time",
        flags: "apqv",
        valued: "fo",
        long: &["append", "portability", "quiet", "verbose"],
        long_valued: &["format", "output"],
        ..NOTHING
    },
    Wrapper {
        name: "timeout",
        flags: "fpv",
        valued: "ks",
        long: &["foreground", "preserve-status", "verbose"],
        long_valued: &["kill-after", "signal"],
        operands: 1,
        ..NOTHING
    },
    Wrapper {
        name: "xargs",
        flags: "0oprtx",
        valued: "adEILnPs",
        optional: "eil",
        long: &[
            "null",
            "open-tty",
            "interactive",
            "no-run-if-empty",
            "verbose",
            "exit",
            "show-limits",
            "replace",
            "eof",
            "max-lines",
        ],
        long_valued: &[
            "arg-file",
            "delimiter",
            "max-args",
            "max-procs",
            "max-chars",
            "process-slot-var",
        ],
        ..NOTHING
    },
];

const NOTHING: Wrapper = Wrapper {
    name: "",
    flags: "",
    valued: "",
    optional: "",
    long: &[],
    long_valued: &[],
    is_numbered: false,
    takes_variables: false,
    operands: 0,
    elsewhere: &[],
};

/// What comes after these runs for what `find` finds.
const OF_FIND: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];

/// The programs that `layer` is told to run, if it is one that runs others.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn inner(layer: &Layer) -> Result<Vec<Inner>, String> {
    let names = layer.names();
    if names.contains(&"find") {
        return Ok(of_find(&layer.arguments));
    }
    let Some(wrapper) = WRAPPERS.iter().find(|wrapper| names.contains(&wrapper.name)) else {
        return Ok(Vec::new());
    };
    let inner = wrapper.inner(&layer.arguments)?;
    Ok(Vec::from_iter(Some(inner).filter(|inner| !inner.argv.is_empty())))
}

impl Layer {
    /// What it may be known as: what it is called by, and what the file is called.
    pub(super) fn names(&self) -> Vec<&str> {
        let file = self.program.as_ref().and_then(|program| program.file_name()?.to_str());
        [Some(self.name.as_str()), file].into_iter().flatten().collect()
    }
}

fn of_find(arguments: &[String]) -> Vec<Inner> {
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some(at) = rest.iter().position(|argument| OF_FIND.contains(&argument.as_str())) {
        let is_elsewhere = rest[at].ends_with("dir");
        rest = &rest[at + 1..];
        let end = rest.iter().enumerate().position(|(index, argument)| {
            argument == ";" || (argument == "+" && index > 0 && rest[index - 1] == "{}")
        });
        let (argv, after) = rest.split_at(end.unwrap_or(rest.len()));
        found.push(Inner { argv: argv.to_owned(), path: None, is_elsewhere });
        rest = after;
    }
    found
}

impl Wrapper {
    fn inner(&self, arguments: &[String]) -> Result<Inner, String> {
        let mut inner = Inner::default();
        let mut rest = arguments.iter();
        let program = loop {
            let Some(argument) = rest.as_slice().first() else { break rest.as_slice() };
            let is_dash = argument == "-" && self.takes_variables;
            let is_option = argument.len() > 1 && argument.starts_with('-');
            if !is_option && !is_dash {
                break rest.as_slice();
            }
            rest.next();
            if argument == "--" {
                break rest.as_slice();
            }
            let takes_next = match argument.strip_prefix("--") {
                Some(long) => self.long(long, &mut inner)?,
                None => self.short(&argument[1..], &mut inner)?,
            };
            if takes_next {
                rest.next();
            }
        };
        let mut program = program;
        while self.takes_variables
            && let Some((name, value)) = program.first().and_then(|first| first.split_once('='))
        {
            if let Some(problem) = environment::refusal(name) {
                return Err(format!("{name}: {problem}"));
            }
            if name == "PATH" {
                inner.path = Some(value.to_owned());
            }
            program = &program[1..];
        }
        let program = program.get(self.operands..).unwrap_or_default();
        if let Some(option) = program.first().filter(|first| first.starts_with('-')) {
            return Err(format!("{} has the option {option} where a program is", self.name));
        }
        inner.argv = program.to_owned();
        Ok(inner)
    }

    /// True if the option `text` takes the next argument as well.
    fn long(&self, text: &str, inner: &mut Inner) -> Result<bool, String> {
        let (asked, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        // What begins an option's name stands for it.
        let begun = |options: &[&'static str]| -> Vec<&'static str> {
            let exact = options.iter().find(|option| **option == asked);
            match exact {
                Some(exact) => vec![exact],
                None => options.iter().filter(|o| o.starts_with(asked)).copied().collect(),
            }
        };
        let (plain, valued) = (begun(self.long), begun(self.long_valued));
        let name = match (plain.as_slice(), valued.as_slice()) {
            ([.., name], []) | ([], [.., name]) => *name,
            ([], []) | ([..], [..]) => {
                return Err(format!("{} has the option --{asked}, which is not known", self.name));
            }
        };
        inner.is_elsewhere |= self.elsewhere.contains(&name);
        Ok(!valued.is_empty() && value.is_none())
    }

    /// The same for options of one letter, of which several may stand together.
    fn short(&self, letters: &str, inner: &mut Inner) -> Result<bool, String> {
        if self.is_numbered && letters.parse::<i32>().is_ok() {
            return Ok(false);
        }
        for (at, letter) in letters.char_indices() {
            inner.is_elsewhere |= self.elsewhere.iter().any(|of| of.chars().eq([letter]));
            let is_last = at + letter.len_utf8() == letters.len();
            match () {
                () if self.flags.contains(letter) => {}
                () if self.valued.contains(letter) => return Ok(is_last),
                () if self.optional.contains(letter) => return Ok(false),
                () => {
                    return Err(format!(
                        "{} has the option -{letter}, which is not known",
                        self.name
                    ));
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(argv: &str) -> Layer {
        let mut words = argv.split_whitespace().map(str::to_owned);
        Layer { name: words.next().unwrap(), program: None, arguments: words.collect() }
    }

    #[test]
    fn what_is_run_is_found_behind_options() {
        for (argv, expected) in [
            ("env", ""),
            ("env -i A=b B=c ls -l", "ls -l"),
            ("env - ls", "ls"),
            ("env -u HOME --unset=X -- ls", "ls"),
            ("nice -5 ls", "ls"),
            ("nice -n 5 ls", "ls"),
            ("nice -n5 --adjustment 3 ls", "ls"),
            ("timeout 5 ls", "ls"),
            ("timeout -k 1 --sig=INT 5 ls -k", "ls -k"),
            ("timeout --kill 1 5 ls", "ls"),
            ("xargs -0 -n1 -P 4 -I {} rm {}", "rm {}"),
            ("xargs -i rm {}", "rm {}"),
            ("sudo -nu root A=b rm", "rm"),
            ("stdbuf -oL -e 0 ls", "ls"),
            ("setsid -fw ls", "ls"),
            ("busybox sh -c x", "sh -c x"),
            ("flock -n /tmp/lock ls", "ls"),
            ("ls -exec x", ""),
        ] {
            let found = inner(&layer(argv)).unwrap();
            let found: Vec<String> = found.iter().map(|inner| inner.argv.join(" ")).collect();
            assert_eq!(found.concat(), expected, "{argv}");
        }
    }

    #[test]
    fn find_may_run_several() {
        let found = layer("find . -exec rm {} + -o -execdir ./x + y ; -print -ok cat {}");
        let found = inner(&found).unwrap();
        let argv: Vec<String> = found.iter().map(|inner| inner.argv.join(" ")).collect();
        assert_eq!(argv, ["rm {}", "./x + y", "cat {}"]);
        assert_eq!(
            found.iter().map(|inner| inner.is_elsewhere).collect::<Vec<_>>(),
            [false, true, false]
        );
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        for argv in [
            "env -S ls",
            "env --split-string=ls",
            "env LD_PRELOAD=x ls",
            "sudo -s",
            "sudo -i",
            "timeout --what 5 ls",
            "flock /tmp/lock -c ls",
            "stdbuf --x ls",
        ] {
            assert!(inner(&layer(argv)).is_err(), "{argv}");
        }
    }
}
