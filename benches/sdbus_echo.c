/* The peer of the D-Bus benchmark: a C service on libsystemd's sd-bus that gives bytes back.
 * It serves nothing else. Usage: sdbus_echo ADDRESS; prints "ready" when it owns its name. */
#include <stdio.h>
#include <systemd/sd-bus.h>

static int echo(sd_bus_message *call, void *data, sd_bus_error *error) {
    const void *bytes;
    size_t size;
    sd_bus_message *reply = NULL;
    (void)data;
    (void)error;
    int r = sd_bus_message_read_array(call, 'y', &bytes, &size);
    if (r < 0) return r;
    r = sd_bus_message_new_method_return(call, &reply);
    if (r < 0) return r;
    r = sd_bus_message_append_array(reply, 'y', bytes, size);
    if (r >= 0) r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r;
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Echo", "ay", "ay", echo, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

int main(int argc, char **argv) {
    sd_bus *bus = NULL;
    if (argc != 2) return 2;
    if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
        sd_bus_start(bus) < 0 || sd_bus_add_object_vtable(bus, NULL, "/peer", "peer.Echo", vtable, NULL) < 0 ||
        sd_bus_request_name(bus, "peer.Echo", 0) < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        int r = sd_bus_process(bus, NULL);
        if (r < 0) return 1;
        if (r == 0 && sd_bus_wait(bus, (uint64_t)-1) < 0) return 1;
    }
}
