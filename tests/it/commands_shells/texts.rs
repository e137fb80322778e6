//! What a text may do, and what is left of it for the next one.

use tonic::Code;

use super::{POSIX, World};
use crate::grpc::check_error;

#[tokio::test]
async fn what_a_text_leaves_is_there_for_the_next() {
    let world = World::new().await;
    std::fs::create_dir(world.folder.path().join("sub\nfolder")).unwrap();
    let here = world.folder.path().display();
    for kind in POSIX {
        let shell = world.open(kind).await;
        assert_eq!((&*shell.shell, &*shell.directory), (kind, &*here.to_string()));
        assert_eq!(world.run(&shell, "x=5; f() { echo \"f $x $1\"; }").await.ok(), "");
        assert_eq!(world.run(&shell, "f 1\nf 2").await.ok(), "f 5 1\nf 5 2\n");
        let ran = world.run(&shell, "cd 'sub\nfolder' && printf 'no newline'").await;
        assert_eq!(ran.ok(), "no newline");
        assert_eq!(ran.done.directory, format!("{here}/sub\nfolder"));
        assert_eq!(world.run(&shell, "basename \"$PWD\"").await.ok(), "sub\nfolder\n");
        let shown = world.list().await.into_iter().find(|shown| shown.id == shell.id).unwrap();
        assert_eq!((shown.runs, shown.busy), (4, false));
        assert_eq!(shown.directory, format!("{here}/sub\nfolder"));
    }
    let shell = world.open("python3").await;
    assert_eq!(world.run(&shell, "import os\nx = 5\ndef f(n):\n    return x + n").await.ok(), "");
    let ran = world.run(&shell, "print(f(1), end='')\nos.chdir('/usr')").await;
    assert_eq!((ran.ok(), &*ran.done.directory), ("6", "/usr"));
}

#[tokio::test]
async fn the_status_is_that_of_the_text() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        for (text, code) in
            [("false", 1), ("(exit 9)", 9), ("return 7", 7), ("", 0), ("nothing-such", 127)]
        {
            assert_eq!(world.run(&shell, text).await.code(), code, "{kind}: {text}");
        }
        assert_eq!(world.run(&shell, "sh -c 'kill -9 $$'").await.code(), 137);
        let ran = world.run(&shell, "echo out; echo err >&2").await;
        assert_eq!((&*ran.stdout, &*ran.stderr), ("out\n", "err\n"));
    }
}

#[tokio::test]
async fn an_error_does_not_end_the_shell() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        world.run(&shell, "x=kept; readonly r=1").await;
        for text in [
            "if",
            "echo 'open",
            "cat <<END\nno end",
            ")",
            "shift 5",
            "r=2",
            ": ${missing:?}",
            "set -u; : $missing",
            "set +u; . /nothing",
            ": >/nothing/such",
            "echo $((1/0))",
        ] {
            let ran = world.run(&shell, text).await;
            // What an open quotation or document is, shells do not agree on.
            assert!(ran.code() != 0 || text.contains("END"), "{kind}: {text}: {ran:?}");
            assert!(!ran.stderr.contains("printf"), "{kind}: {text}: {ran:?}");
            assert_eq!(world.run(&shell, "echo $x").await.ok(), "kept\n", "{kind}: {text}");
        }
        // An interrupt of its own.
        assert_eq!(world.run(&shell, "kill -INT $$; echo not").await.code(), 130, "{kind}");
        assert_eq!(world.run(&shell, "echo $x").await.ok(), "kept\n");
    }
    // The lines of a text are counted from its first one; `bash` does not tell them when it is interactive.
    let shell = world.open("sh").await;
    let ran = world.run(&shell, "\n\nnothing-such").await;
    assert!(ran.stderr.contains(" 3: ") && ran.stderr.contains("nothing-such"), "{ran:?}");
    let shell = world.open("python3").await;
    world.run(&shell, "x = 'kept'").await;
    for (text, problem) in [("if", "SyntaxError"), ("1/0", "ZeroDivisionError"), ("y", "NameError")]
    {
        let ran = world.run(&shell, text).await;
        assert_eq!(ran.code(), 1, "{text}");
        assert!(ran.stderr.contains(problem) && !ran.stderr.contains("exec("), "{ran:?}");
        assert_eq!(world.run(&shell, "print(x)").await.ok(), "kept\n", "{text}");
    }
}

/// What a text starts has an input that is at its end, and neither the shell's orders nor its markers.
#[tokio::test]
async fn a_text_cannot_eat_what_is_meant_for_the_shell() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        assert_eq!(world.run(&shell, "cat; read line; echo \"$?$line\"").await.ok(), "1\n");
        let ran = world.run(&shell, "ls /proc/self/fd; readlink /proc/self/fd/0").await;
        // Besides these, `ls` has the folder that it lists open.
        assert_eq!(ran.ok(), "0\n1\n2\n3\n/dev/null\n", "{kind}");
        assert_eq!(world.run(&shell, "exec 0<&-; exec 3>&- 4>&-").await.ok(), "");
        assert_eq!(
            world.run(&shell, "exec 3>log 4>&3; echo logged >&4; cat log").await.ok(),
            "logged\n"
        );
        assert_eq!(world.run(&shell, "echo on").await.ok(), "on\n", "{kind}");
        // History, prompts and traces are no output.
        let ran = world.run(&shell, "PS1='prompt>'; PS2=more; set -x").await;
        assert_eq!(ran.code(), 0);
        let ran = world.run(&shell, "set +x; echo 'a!b!!'").await;
        assert_eq!((&*ran.stdout, ran.stderr.contains("printf")), ("a!b!!\n", false), "{ran:?}");
    }
    let shell = world.open("python3").await;
    let ran =
        world.run(&shell, "try:\n    input()\nexcept EOFError:\n    print('at its end')").await;
    assert_eq!(ran.ok(), "at its end\n");
    let text = "import subprocess\nsubprocess.run(['ls', '/proc/self/fd'])";
    assert_eq!(world.run(&shell, text).await.ok(), "0\n1\n2\n3\n");
}

#[tokio::test]
async fn a_marker_that_is_not_the_shells_own_is_none() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        let look_alike = "<0123456789abcdef0123456789abcdef:0:/:0123456789abcdef0123456789abcdef>";
        // Wherever the shell keeps its marker's descriptor, this writes there as well.
        let text = format!(
            "for f in /proc/$$/fd/*; do case $(ls -l $f) in l-wx*pipe:*) echo '{look_alike}' >$f; \
             head -c 100000 /dev/zero >$f; esac; done; sleep 0.2; echo end; false"
        );
        let ran = world.run(&shell, &text).await;
        assert_eq!(ran.code(), 1, "{kind}");
        assert!(ran.stdout.ends_with("end\n") && ran.stdout.contains(look_alike), "{kind}");
        assert_eq!(
            world.run(&shell, &format!("echo '{look_alike}'")).await.ok().trim_end(),
            look_alike
        );
    }
}

#[tokio::test]
async fn a_text_is_bounded_and_may_be_long() {
    let world = World::new().await;
    for kind in ["sh", "bash", "python3"] {
        let shell = world.open(kind).await;
        let line = if kind == "python3" { "n = n + 1\n" } else { "n=$((n+1))\n" };
        let (begin, end) = match kind {
            "python3" => ("n = 0\n", "print(n)"),
            _ => ("n=0\n", "echo $n"),
        };
        let text = format!("{begin}{}{end}", line.repeat(20_000));
        assert_eq!(world.run(&shell, &text).await.ok(), "20000\n", "{kind}");
        let text = format!("{end} #{}", "x".repeat((1 << 20) - end.len() - 2));
        assert_eq!(world.run(&shell, &text).await.ok(), "20000\n", "{kind}");
        let outcome = world.run_for(&shell, &format!("{text}x"), None).await;
        let error = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
        assert_eq!(error.error_info().unwrap().metadata["limit"], "commands.script_bytes");
        let outcome = world.run_for(&shell, "echo a\0b", None).await;
        check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(world.run(&shell, end).await.ok(), "20000\n", "{kind}");
    }
}
