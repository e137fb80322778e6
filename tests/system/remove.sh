# The package is upgraded and removed. Sourced by tests/system/run.
# shellcheck shell=bash source=tests/system/inside.sh

# shellcheck disable=SC2016 # dpkg-query expands it.
version() { box dpkg-query --show --showformat='${Version}' op-dbus; }
active() {
    matches "$1" $'^active\nactive\nactive$' \
        "$(box systemctl is-active op-dbus.service op-dbus.socket op-dbus-exec.socket)"
}
kept() {
    matches "$1: what was stored is there" '"atlas"' "$(call member Recall 'sa{sv}' host 0)"
    matches "$1: and what the administrator changed" $'^# mine\n\\[executor\\]\nqueue = 77$' \
        "$(box sh -c 'tail -n 1 /etc/op-dbus/grpc.toml; cat /etc/op-dbus/grpc.toml.d/70-own.toml')"
    matches "$1: and it is in force" 'queue = 77' "$(box op-dbusd --check-config)"
    matches "$1: and the audit log is whole" 'the log is whole' "$(box op-dbusctl audit verify)"
}

echo '-- upgrade'
box systemctl reset-failed op-dbus
box sh -c 'echo "# mine" >>/etc/op-dbus/grpc.toml'
put /etc/op-dbus/grpc.toml.d/70-own.toml <<<$'[executor]\nqueue = 77'
# The same package, as an earlier version of it.
box sh -c 'cd /root && dpkg-deb --raw-extract op-dbus.deb older &&
    sed -i "s/^Version: .*/Version: 0.0.1-1/" older/DEBIAN/control &&
    dpkg-deb -Znone --build older older.deb && rm -r older' >/dev/null
box dpkg --install --force-downgrade /root/older.deb >/dev/null 2>&1
matches 'an earlier version is there' '^0.0.1-1$' "$(version)"
active 'and runs'
pid=$(show MainPID)
# Somebody who calls all the time, over either transport.
put /root/calls <<'CALLS'
until [ -e /root/upgraded ]; do
    runuser -u member -- op-dbusctl --via grpc call memory Recall key=host >/dev/null || echo grpc
    runuser -u member -- op-dbusctl --via dbus call memory Recall key=host >/dev/null || echo dbus
done >/root/failures 2>&1
CALLS
box sh /root/calls &
caller=$!
box dpkg --install --force-confdef /root/op-dbus.deb >/dev/null
box touch /root/upgraded
wait "$caller"
active 'after an upgrade all run'
refused 'the service is another process' '^$' test "$pid" = "$(show MainPID)"
# What was under way, or had come, when the service stopped, is to be tried again.
matches 'a call meanwhile was answered, or told to try again' '^$' \
    "$(box sh -c 'grep -E "^(kind|error):" /root/failures | grep -vE "UNAVAILABLE|stopping|connection was lost"')"
kept 'an upgrade'
box rm /root/older.deb /root/upgraded /root/calls /root/failures

echo '-- the scripts of the package, again'
for _ in 1 2; do
    box /var/lib/dpkg/info/op-dbus.postinst configure "$(version)" >/dev/null 2>&1
    active "configured once more, it runs"
done
kept 'configured again'

echo '-- remove'
box dpkg --remove op-dbus >/dev/null
matches 'removal keeps configuration and state' $'^/etc/op-dbus/grpc.toml\n/var/lib/op-dbus/' \
    "$(box sh -c 'ls -d /etc/op-dbus/grpc.toml /var/lib/op-dbus/*')"
refused 'but no process' '^$' box pgrep --exact op-dbusd
box dpkg --install --force-confdef /root/op-dbus.deb >/dev/null 2>&1
active 'installed again, it runs'
kept 'installed again'
box cp /var/lib/dpkg/info/op-dbus.postrm /root/postrm
box dpkg --purge op-dbus >/dev/null
box sh /root/postrm purge
matches 'purge leaves nothing' '^$' \
    "$(box find / /run /tmp /dev/shm /sys/fs/cgroup -xdev \( -name '*op-dbus*' -o -name '*opdbus*' \) \
        -not -path '/run/systemd/*' -not -name op-dbus.deb)"
matches 'nor a unit' '^$' "$(box systemctl list-units --all --no-legend --plain 'op-dbus*')"
