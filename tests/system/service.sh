# The service is reloaded, broken and mended. Sourced by tests/system/run.
# shellcheck shell=bash source=tests/system/inside.sh

echo '-- reload'
put /etc/op-dbus/grpc.toml.d/50-test.toml <<<$'[executor]\nqueue = "many"'
refused 'a wrong configuration fails the reload' 'failed|exit' box systemctl reload op-dbus
matches 'the service goes on with the old one' '"atlas"' "$(call member Recall 'sa{sv}' host 0)"
put /etc/op-dbus/grpc.toml.d/50-test.toml \
    <<<$'[[policy]]\nusers = ["member"]\nagents = ["memory"]\ndecision = "deny"'
pid=$(show MainPID)
box systemctl reload op-dbus
denied() { ! call member Recall 'sa{sv}' host 0; }
until_true 120 denied
matches 'a right one is in force after the reload' 'not allowed' \
    "$(call member Recall 'sa{sv}' host 0 2>&1 || true)"
matches 'in the same process' "^$pid\$" "$(show MainPID)"
box rm /etc/op-dbus/grpc.toml.d/50-test.toml
box systemctl reload op-dbus
until_true 120 call member Recall 'sa{sv}' host 0
echo 'ok without it the old policy is back'

echo '-- break and mend'
restarts=$(show NRestarts)
box kill -KILL "$(show MainPID)"
until_true 120 call member Recall 'sa{sv}' host 0
matches 'a killed service is started again' "^$((restarts + 1))\$" "$(show NRestarts)"
matches 'and has what it answered for' '"atlas"' "$(call member Recall 'sa{sv}' host 0)"
box systemctl stop op-dbus.service
matches 'a call on D-Bus starts a stopped service' '"atlas"' \
    "$(call member Recall 'sa{sv}' host 0)"
box systemctl stop op-dbus.service
matches 'so does a call on the gRPC socket' 'atlas' \
    "$(as member op-dbusctl --via grpc --json call memory Recall key=host)"
box mkdir -p /run/systemd/system/op-dbus.service.d
put /run/systemd/system/op-dbus.service.d/watchdog.conf <<<$'[Service]\nWatchdogSec=4'
box systemctl daemon-reload
box systemctl restart op-dbus
box kill -STOP "$(show MainPID)"
restarted() { [ "$(show NRestarts)" -ge 1 ] && [ "$(show ActiveState)" = active ]; }
until_true 120 restarted
matches 'a service that hangs is killed by the watchdog and started again' 'atchdog timeout' \
    "$(box journalctl --unit=op-dbus --quiet --no-pager)"
box rm -r /run/systemd/system/op-dbus.service.d
box systemctl daemon-reload
box systemctl restart dbus.service
until_true 120 call member Recall 'sa{sv}' host 0
echo 'ok after a restart of the bus the service is there again'
put /etc/op-dbus/grpc.toml.d/50-test.toml <<<$'[grpc]\nunix_mod = "0600"'
refused 'with a wrong configuration it does not start' 'failed' box systemctl restart op-dbus
matches 'and the journal names the key and the one that was meant' 'unix_mod.*unix_mode' \
    "$(box journalctl --unit=op-dbus --quiet --no-pager --lines=30)"
sleep 2
matches 'nor is it tried again and again' '^(failed|inactive)$' "$(show ActiveState)"
box rm /etc/op-dbus/grpc.toml.d/50-test.toml
