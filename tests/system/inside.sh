# What the themes share that are driven from outside of the box. Sourced by tests/system/run.
# shellcheck shell=bash

# shellcheck source=tests/clients/check.sh
. tests/clients/check.sh
# box PROGRAM...: inside; as USER PROGRAM...: inside, as that user.
# shellcheck disable=SC2086 # BOX is a program and its arguments.
box() { $BOX "$@"; }
as() { box runuser -u "$1" -- "${@:2}"; }
show() { box systemctl show op-dbus.service --property="$1" --value; }
call() { as "$1" busctl --timeout=120 call "$name" "$memory" org.opdbus.Memory1 "${@:2}"; }
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
put() { box tee "$1" >/dev/null; }
