package devices

import "net/netip"

// Transport is the way by which a device is connected or sends: in its status, its history, the
// metrics and the traces.
type Transport string

// The transports, beside those of bridges.
const (
	OverWebSocket Transport = "websocket"
	OverLongPoll  Transport = "longpoll"
	OverMQTT      Transport = "mqtt" // the hub's own listener
	OverHTTP      Transport = "http" // for readings alone: there is no connection
)

// OverBridge is the transport of the devices behind a bridge.
func OverBridge(name string) Transport { return Transport("bridge:" + name) }

// Via is how audit entries name the transport.
func (t Transport) Via() string {
	if t == OverWebSocket {
		return "ws"
	}
	return string(t)
}

// Host is an address without its port, as audit entries and events have it: an IPv4 address that
// came in as an IPv6 one is itself. Anything else stands for itself.
func Host(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap.Addr().Unmap().String()
	}
	return addr
}
