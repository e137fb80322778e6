# The package is upgraded and removed. Sourced by tests/system/run.
# shellcheck shell=bash source=tests/system/inside.sh

echo '-- upgrade and remove'
box systemctl reset-failed op-dbus
box dpkg --install /root/op-dbus.deb >/dev/null
matches 'an upgrade leaves both running' $'^active\nactive$' \
    "$(box systemctl is-active op-dbus.service op-dbus.socket)"
matches 'with all that was stored' '"atlas"' "$(call member Recall 'sa{sv}' host 0)"
box dpkg --remove op-dbus >/dev/null
matches 'removal keeps configuration and state' $'^/etc/op-dbus/grpc.toml\n/var/lib/op-dbus/' \
    "$(box sh -c 'ls -d /etc/op-dbus/grpc.toml /var/lib/op-dbus/*')"
refused 'but no process' '^$' box pgrep --exact op-dbusd
box dpkg --purge op-dbus >/dev/null
matches 'purge leaves nothing' '^$' "$(box find / /run -xdev \( -name '*op-dbus*' -o -name '*opdbus*' \) \
    -not -path '/run/systemd/*' -not -name op-dbus.deb)"
