#!/bin/bash
# A desktop script as there were many: it calls the older interface by busctl, one process for each call,
# and tries again what failed. It ends when it is told that its calls have moved. Each line says what was.
#
#   desktop.sh BUS
set -uo pipefail
bus=$1

run() {
    busctl --address="$bus" call org.dbusmcp.Agent.Memory /org/dbusmcp/Agent/Memory \
        org.dbusmcp.Agent RunOperation sss "$@" 2>&1
}

# try EXPECTED OPERATION ARGUMENTS...: until the answer has the text. Both calls may be made twice.
try() {
    local expected=$1 said
    shift
    until said=$(run "$@"); do
        case $said in
            *'has moved to gRPC'*) echo "moved ${said//$'\n'/ }" && exit ;;
            *) echo "again ${said//$'\n'/ }" ;;
        esac
        sleep 0.05
    done
    case $said in *"$expected"*) ;; *) echo "wrong $said" && exit 1 ;; esac
}

for ((n = 1; ; n++)); do
    try 'Remembered: host' remember host "$n"
    try "host = $n\\\"" recall host ''
    echo "done $n"
done
