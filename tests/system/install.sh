# The package is installed and used. Sourced by tests/system/run.
# shellcheck shell=bash source=tests/system/inside.sh

echo '-- install'
box useradd --create-home stranger
box dpkg --install /root/op-dbus.deb >/dev/null
matches 'the service and its socket are active after installation' $'^active\nactive$' \
    "$(box systemctl is-active op-dbus.service op-dbus.socket)"
matches 'so is the socket of the exec service, for op-dbus alone' '^active 600 op-dbus$' \
    "$(box systemctl is-active op-dbus-exec.socket) $(box stat --format='%a %U' /run/op-dbus/exec.sock)"
matches 'both are enabled' $'^enabled\nenabled$' \
    "$(box systemctl is-enabled op-dbus.service op-dbus.socket)"
box useradd --create-home --groups op-dbus member
matches 'the service runs as its own user' '^op-dbus$' \
    "$(box stat --format=%U "/proc/$(show MainPID)")"
matches 'it has no capability' '^CapEff:.0{16}$' \
    "$(box grep CapEff "/proc/$(show MainPID)/status")"
matches 'the gRPC socket is for the group' '^660 root op-dbus$' \
    "$(box stat --format='%a %U %G' /run/op-dbus/grpc.sock)"
matches 'the state is for nobody else' '^700 op-dbus op-dbus$' \
    "$(box stat --format='%a %U %G' /var/lib/op-dbus)"
matches 'no file of the package is for others to write, or gives rights' '^$' \
    "$(box sh -c 'dpkg --listfiles op-dbus | xargs -d "\n" -I{} find {} -maxdepth 0 ! -type l -perm /7022')"
matches 'there is a folder for the configuration of the administrator' '^755 root$' \
    "$(box stat --format='%a %U' /etc/op-dbus/grpc.toml.d)"
matches 'the units verify' '^$' \
    "$(box systemd-analyze verify --man=no op-dbus.service op-dbus.socket \
        op-dbus-exec.service op-dbus-exec.socket 2>&1)"
exposed() { # exposed UNIT TENTHS
    matches "$1 is exposed no more than $2 tenths" '^$' \
        "$(box systemd-analyze security --no-pager --threshold="$2" "$1.service" >/dev/null || echo more)"
}
exposed op-dbus 10
exposed op-dbus-exec 35
matches 'systemd knows the unit by its bus name' '^op-dbus.service$' \
    "$(box systemctl show --property=Id --value dbus-org.opdbus.Agents1.service)"
matches 'the journal has the start' 'op-dbus' "$(box journalctl --unit=op-dbus --quiet --no-pager)"
matches 'the journal has no warning' '^$' \
    "$(box journalctl --unit=op-dbus --quiet --no-pager --priority=warning || true)"

echo '-- the network is a drop-in'
box install -D -m 644 /usr/share/doc/op-dbus/op-dbus-network.conf \
    /run/systemd/system/op-dbus.service.d/network.conf
box systemctl daemon-reload
exposed op-dbus 15
put /etc/op-dbus/grpc.toml.d/50-tcp.toml <<<$'[grpc]\ntcp = "127.0.0.1:50051"'
box systemctl restart op-dbus
matches 'loopback TCP is served, and the kernel says who calls' 'memory' \
    "$(as stranger op-dbusctl --endpoint http://127.0.0.1:50051 agents)"
box rm -r /run/systemd/system/op-dbus.service.d
box systemctl daemon-reload
refused 'without it there is no network, and the start says what helps' 'failed' \
    box systemctl restart op-dbus
matches 'in the journal' 'op-dbus-network.conf' \
    "$(box journalctl --unit=op-dbus --quiet --no-pager --lines=30)"
box rm /etc/op-dbus/grpc.toml.d/50-tcp.toml
box systemctl reset-failed op-dbus
box systemctl restart op-dbus

echo '-- use'
matches 'an older client finds its agent' 'Memory is ' \
    "$(as stranger busctl call org.dbusmcp.Agent.Memory /org/dbusmcp/Agent/Memory \
        org.dbusmcp.Agent Status)"
matches 'a member remembers over D-Bus' '^tba\{sv\} 1 true ' \
    "$(call member Remember 'sva{sv}' host s atlas 0)"
matches 'and recalls over gRPC' 'atlas' \
    "$(as member op-dbusctl --via grpc --json call memory Recall key=host)"
matches 'a stranger may call over D-Bus' '^tba\{sv\} 1 true ' \
    "$(call stranger Remember 'sva{sv}' host s other 0)"
matches 'but has a memory of their own' '"atlas"' "$(call member Recall 'sa{sv}' host 0)"
refused 'a stranger may not use the gRPC socket' '[Pp]ermission|reached|connect' \
    as stranger op-dbusctl --via grpc ping
matches 'the metrics are served' 'opdbus_calls_total' \
    "$(as member op-dbusctl metrics --raw)"
