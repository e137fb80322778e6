//! Programs that run a text which they are given as an argument or on their input.

use super::layers::Layer;

/// How an interpreter is given a text. Options of one letter may stand together.
struct Interpreter {
    /// Its names, without a version at the end.
    names: &'static [&'static str],
    /// The letters of options that are followed by a text.
    texts: &'static str,
    /// Those that take the rest of the argument, or else the next one, ...
    valued: &'static str,
    /// ... the rest of the argument, if there is one, ...
    attached: &'static str,
    /// ... or the next argument, whatever else stands in this one.
    beside: &'static str,
    /// Those after which the program itself is named.
    ends: &'static str,
    /// Options with names that are followed by a text, ...
    long_texts: &'static [&'static str],
    /// ... and by something else.
    long_valued: &'static [&'static str],
}

const PLAIN: Interpreter = Interpreter {
    names: &[],
    texts: "",
    valued: "",
    attached: "",
    beside: "",
    ends: "",
    long_texts: &[],
    long_valued: &[],
};

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh"],
        texts: "c",
        beside: "oO",
        long_valued: &["rcfile", "init-file"],
        ..PLAIN
    },
    Interpreter {
        names: &["fish"],
        texts: "cC",
        valued: "dDfop",
        long_texts: &["command", "init-command"],
        ..PLAIN
    },
    Interpreter {
        names: &["python", "pypy"],
        texts: "c",
        valued: "WX",
        ends: "m",
        long_valued: &["check-hash-based-pycs"],
        ..PLAIN
    },
    Interpreter { names: &["perl"], texts: "eE", valued: "I", attached: "MmVDFxC", ..PLAIN },
    Interpreter {
        names: &["ruby"],
        texts: "e",
        valued: "IrEC",
        attached: "KWTxF0",
        long_valued: &["encoding", "external-encoding", "internal-encoding"],
        ..PLAIN
    },
    Interpreter {
        names: &["node", "nodejs", "bun"],
        texts: "ep",
        valued: "rC",
        long_texts: &["eval", "print"],
        long_valued: &["require", "import", "conditions"],
        ..PLAIN
    },
    Interpreter {
        names: &["php"],
        texts: "rBRE",
        valued: "cdfFStz",
        long_texts: &["run", "process-begin", "process-code", "process-end"],
        long_valued: &["php-ini", "define", "file"],
        ..PLAIN
    },
    Interpreter { names: &["lua", "luajit"], texts: "e", valued: "l", ..PLAIN },
];

/// Programs that give what they are told to a shell; these options are followed by a text.
const OF_SHELLS: &[(&str, &[&str])] = &[
    ("script", &["-c", "--command"]),
    ("su", &["-c", "--command", "--session-command"]),
    ("runuser", &["-c", "--command", "--session-command"]),
    // These take any argument for a part of the text.
    ("watch", &[""]),
    ("parallel", &[""]),
];

/// How `layer` is given a text to run, if it is. `has_input`: somebody gives it an input.
pub(super) fn text(layer: &Layer, has_input: bool) -> Option<&'static str> {
    let names = layer.names();
    let of_shell = OF_SHELLS.iter().find(|(name, _)| names.contains(name));
    if let Some((_, options)) = of_shell {
        let is_text = |argument: &String| options.iter().any(|option| argument.starts_with(option));
        return layer.arguments.iter().any(is_text).then_some("as a command for a shell");
    }
    let without_version = |name: &&str| {
        name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-').to_owned()
    };
    let names: Vec<String> = names.iter().map(without_version).collect();
    let is_it = |of: &&Interpreter| of.names.iter().any(|name| names.iter().any(|n| n == name));
    INTERPRETERS.iter().find(is_it)?.text(&layer.arguments, has_input)
}

impl Interpreter {
    fn text(&self, arguments: &[String], has_input: bool) -> Option<&'static str> {
        const OPTION: Option<&str> = Some("as an option's argument");
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                return of_input(rest.next(), has_input);
            }
            let after = match argument.strip_prefix("--") {
                Some(long) => self.long(long),
                None if argument.len() > 1 && argument.starts_with(['-', '+']) => {
                    self.short(&argument[1..])
                }
                None => return of_input(Some(argument), has_input),
            };
            match after {
                After::Options => {}
                After::Value => drop(rest.next()),
                After::Text => return OPTION,
                After::Program => return None,
            }
        }
        of_input(None, has_input)
    }

    fn long(&self, option: &str) -> After {
        let (name, is_whole) = match option.split_once('=') {
            Some((name, _)) => (name, true),
            None => (option, false),
        };
        match () {
            () if self.long_texts.contains(&name) => After::Text,
            () if self.long_valued.contains(&name) && !is_whole => After::Value,
            () => After::Options,
        }
    }

    fn short(&self, letters: &str) -> After {
        let mut after = After::Options;
        for (at, letter) in letters.char_indices() {
            match () {
                () if self.texts.contains(letter) => return After::Text,
                () if self.ends.contains(letter) => return After::Program,
                () if self.beside.contains(letter) => after = After::Value,
                () if self.attached.contains(letter) => return after,
                () if self.valued.contains(letter) => {
                    let is_last = at + letter.len_utf8() == letters.len();
                    return if is_last { After::Value } else { after };
                }
                () => {}
            }
        }
        after
    }
}

/// What comes after an option.
enum After {
    Options,
    /// What belongs to it.
    Value,
    /// A text.
    Text,
    /// The name of the program, which is a file.
    Program,
}

/// A file, or else the input is the text.
fn of_input(file: Option<&String>, has_input: bool) -> Option<&'static str> {
    let is_file = file.is_some_and(|file| file != "-" && file != "/dev/stdin");
    (!is_file && has_input).then_some("on its input")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_text(argv: &str, has_input: bool) -> bool {
        let mut words = argv.split_whitespace().map(str::to_owned);
        let layer =
            Layer { name: words.next().unwrap(), program: None, arguments: words.collect() };
        text(&layer, has_input).is_some()
    }

    #[test]
    fn a_text_is_found_behind_other_options() {
        for argv in [
            "sh -c x",
            "bash -lc x",
            "bash --rcfile f -c x",
            "bash -o pipefail -c x",
            "bash -oc pipefail x",
            "perl -i -lpe x",
            "perl -x -e x",
            "perl -0777ne x",
            "sh +x -ec x",
            "python3.12 -Bc x",
            "python -W ignore -c x",
            "perl -ne x",
            "perl -I lib -we x",
            "perl5.36 -E x",
            "ruby -r json -e x",
            "node --eval=x",
            "node -pe x",
            "php -r x",
            "lua5.4 -e x",
            "su -c x",
            "watch ls",
        ] {
            assert!(is_text(argv, false), "{argv}");
        }
    }

    #[test]
    fn a_file_is_no_text() {
        for argv in [
            "sh script -c x",
            "bash -x script",
            "python3 -m http.server -c x",
            "python3 script.py -c",
            "perl -I lib script.pl -e",
            "node app.js -e",
            "sh -- script",
            "ls -c",
            "gcc -c x.c",
            "su",
        ] {
            assert!(!is_text(argv, false), "{argv}");
            assert!(!is_text(argv, true), "{argv}");
        }
    }

    #[test]
    fn an_input_for_an_interpreter_without_a_file_is_a_text() {
        for argv in ["sh", "bash -i", "python3 -", "sh -s", "perl -w", "sh --"] {
            assert!(is_text(argv, true), "{argv}");
            assert!(!is_text(argv, false), "{argv}");
        }
    }
}
