package broker

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/netpoll"
)

// hostPort is an address that clients are told.
type hostPort struct {
	host string
	port int32
}

// parseListener parses a listeners key: one NAME://HOST:PORT of a name that means PLAINTEXT. HOST may be empty: every address of this
// host. Listeners of Kafka's controllers, by controller.listener.names, are left out: the metadata needs no port of its own.
func parseListener(c *Config, key string) (hostPort, error) {
	value := c.String(key)
	wrong := func(why string) (hostPort, error) {
		return hostPort{}, fmt.Errorf("%w: %s=%q: %s; want PLAINTEXT://HOST:PORT", ErrConfig, key, value, why)
	}
	controllers := SplitList(c.String("controller.listener.names"))
	items := slices.DeleteFunc(SplitList(value), func(item string) bool {
		name, _, _ := strings.Cut(item, "://")
		return slices.Contains(controllers, name)
	})
	if len(items) != 1 {
		return wrong(fmt.Sprintf("%d listeners for clients, and there is exactly one", len(items)))
	}
	name, rest, ok := strings.Cut(items[0], "://")
	if !ok || securityProtocol(c, name) != "PLAINTEXT" {
		return wrong("not a PLAINTEXT listener")
	}
	host, portText, err := net.SplitHostPort(rest)
	if err != nil {
		return wrong(err.Error())
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return wrong(fmt.Sprintf("port %q is not a number from 0 to 65535", portText))
	}
	return hostPort{host: host, port: int32(port)}, nil
}

// securityProtocol is what listener.security.protocol.map says of a listener's name, or the name itself.
func securityProtocol(c *Config, name string) string {
	for _, entry := range SplitList(c.String("listener.security.protocol.map")) {
		if mapped, protocol, ok := strings.Cut(entry, ":"); ok && mapped == name {
			return protocol
		}
	}
	return name
}

// listenAddress is listeners as netpoll wants it.
func listenAddress(c *Config) (string, error) {
	l, err := parseListener(c, "listeners")
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(l.host, strconv.Itoa(int(l.port))), nil
}

// advertisedAddress is advertised.listeners, or nil when it is not set.
func advertisedAddress(c *Config) (*hostPort, error) {
	const key = "advertised.listeners"
	value := c.String(key)
	if value == "" {
		return nil, nil
	}
	l, err := parseListener(c, key)
	switch {
	case err != nil:
		return nil, err
	case l.host == "" || l.host == "0.0.0.0" || l.host == "::":
		return nil, fmt.Errorf("%w: %s=%q: clients cannot connect to %q; name an address of this host", ErrConfig, key, value, l.host)
	case l.port == 0:
		return nil, fmt.Errorf("%w: %s=%q: clients cannot connect to port 0", ErrConfig, key, value)
	}
	return &l, nil
}

// advertise is the address at which a client reaches this broker again: the advertised one, or without it the
// address to which this very connection was made.
func (b *Broker) advertise(c netpoll.Conn) (host string, port int32) {
	if b.advertised != nil {
		return b.advertised.host, b.advertised.port
	}
	local := c.LocalAddr()
	return local.Addr().String(), int32(local.Port())
}
