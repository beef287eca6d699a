package channels

import (
	"errors"
	"time"

	"devicehub/devices"
	"devicehub/hub"
)

// link is a device's connection as its session sees it.
type link struct{ conn *hub.Conn }

func (l link) topic(k devices.Kind) string {
	for _, t := range l.conn.Topics() {
		if len(t) > len(k) && t[:len(k)] == string(k) && t[len(k)] == ':' {
			return t
		}
	}
	return ""
}

// Send pushes an event on the device's topic of kind k.
func (l link) Send(k devices.Kind, event string, payload any) bool {
	return l.conn.Push(l.topic(k), event, payload)
}

// Settle waits for what the device has sent.
func (l link) Settle(patience, most time.Duration) bool { return l.conn.Settle(patience, most) }

// End says disconnect on every topic that the device joined, and closes.
func (l link) End(code devices.Code, reason string, byEpoch int64) {
	msg := map[string]any{"code": code, "reason": reason}
	if byEpoch > 0 {
		msg["by_epoch"] = byEpoch
	}
	l.disconnect(msg)
	l.conn.Close(closeCode(code), string(code))
}

func (l link) disconnect(msg map[string]any) {
	for _, t := range l.conn.Topics() {
		l.conn.Push(t, "disconnect", msg)
	}
}

// closing says disconnect where the engine, and not the session, ends a connection.
func closing(conn *hub.Conn, cause error) {
	switch cause {
	case hub.ErrTooLarge:
		link{conn}.disconnect(map[string]any{"code": devices.CodeTooLarge, "reason": "a frame is longer than the hub takes"})
	case hub.ErrDisconnected:
		link{conn}.disconnect(map[string]any{"code": "kicked", "reason": "the connection was ended from outside"})
	}
}

// closeCode is the WebSocket close code that goes with a code.
func closeCode(c devices.Code) int {
	switch c {
	case devices.CodeReplaced:
		return 4409
	case devices.CodeTooLarge:
		return 1009
	case devices.CodeUnauthorized, devices.CodeForbidden, devices.CodeTokenRevoked, devices.CodeTokenExpired, devices.CodeDeviceDisabled, devices.CodeRateLimited:
		return 1008
	case devices.CodeOverloaded, devices.CodePlatformUnavailable:
		return 1013
	}
	return 1001
}

// closeReason names why a connection ended, in the words of the statuses.
func closeReason(cause error) string {
	switch {
	case errors.Is(cause, hub.ErrClientClosed):
		return "client_close"
	case errors.Is(cause, hub.ErrIdleTimeout):
		return "heartbeat_timeout"
	case errors.Is(cause, hub.ErrDrain):
		return "server_drain"
	case errors.Is(cause, hub.ErrSlowConsumer):
		return "slow_consumer"
	case errors.Is(cause, hub.ErrProtocol), errors.Is(cause, hub.ErrTooLarge):
		return "protocol_error"
	case errors.Is(cause, hub.ErrDisconnected):
		return "kicked"
	}
	return "connection_lost"
}
