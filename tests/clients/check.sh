# What the shell clients share: checks that print `ok WHAT`, or what was wrong and stop. Sourced.
# shellcheck shell=bash

# shellcheck disable=SC2034 # The scripts that source this file use these.
name=org.opdbus.Agents1
root=/org/opdbus/Agents1
memory=$root/agent/memory

# matches WHAT PATTERN TEXT: the text must match the extended regular expression.
matches() {
    if [[ ! $3 =~ $2 ]]; then
        printf 'not ok %s\n  expected: %s\n  got: %s\n' "$1" "$2" "$3"
        exit 1
    fi
    echo "ok $1"
}

# refused WHAT PATTERN COMMAND...: the command must fail with a message that matches.
refused() {
    local what=$1 pattern=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        printf 'not ok %s\n  it was not refused: %s\n' "$what" "$output"
        exit 1
    fi
    matches "$what" "$pattern" "$output"
}
