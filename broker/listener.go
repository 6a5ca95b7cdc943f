package broker

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/weirmq/weir/netpoll"
)

// hostPort is an address that clients are told.
type hostPort struct {
	host string
	port int32
}

// parseListener parses one PLAINTEXT://HOST:PORT of a listeners key. HOST may be empty: every address of this host.
func parseListener(key, value string) (hostPort, error) {
	wrong := func(why string) (hostPort, error) {
		return hostPort{}, fmt.Errorf("%w: %s=%q: %s; want PLAINTEXT://HOST:PORT", ErrConfig, key, value, why)
	}
	items := SplitList(value)
	if len(items) != 1 {
		return wrong(fmt.Sprintf("%d listeners, and there is exactly one", len(items)))
	}
	rest, ok := strings.CutPrefix(items[0], "PLAINTEXT://")
	if !ok {
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

// listenAddress is listeners as netpoll wants it.
func listenAddress(c *Config) (string, error) {
	l, err := parseListener("listeners", c.String("listeners"))
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
	l, err := parseListener(key, value)
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
