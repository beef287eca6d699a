package bridge

import (
	"cmp"
	"errors"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

// refusal is err as the device is told of it. A fault of the hub reads as
// platform_unavailable.
func refusal(err error) *devices.Error {
	var e *devices.Error
	if errors.As(err, &e) {
		return e
	}
	return devices.Refuse(devices.CodePlatformUnavailable, "the hub cannot do this at the moment")
}

// reasons are the reason codes of MQTT 5 for the hub's codes
// (devices/PROTOCOL.md#errors-over-mqtt), by the packet that carries them; which are valid where
// is told by MQTT 5 §3.2.2.2, §3.4.2.1 and §3.14.2.1. 0 stands for the packet's usual one.
var reasons = map[devices.Code]struct{ connack, ack, disconnect byte }{
	devices.CodeUnauthorized: {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	devices.CodeTokenExpired: {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	devices.CodeTokenRevoked: {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	devices.CodeForbidden:    {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	// Banned is a CONNACK's, but it is the hub's published code and the only one
	// that tells a disabled device apart from a revoked token.
	devices.CodeDeviceDisabled:      {packet.Banned, packet.NotAuthorized, packet.Banned},
	devices.CodeReplaced:            {0, 0, packet.SessionTakenOver},
	devices.CodeTooLarge:            {packet.TooLarge, 0, packet.TooLarge},
	devices.CodeRateLimited:         {packet.QuotaExceeded, packet.QuotaExceeded, packet.RateTooHigh},
	devices.CodeOverloaded:          {packet.ServerBusy, packet.QuotaExceeded, packet.ServerBusy},
	devices.CodePlatformUnavailable: {packet.ServerUnavailable, packet.ImplementationError, packet.ShuttingDown},
	devices.CodeRetainedCommand:     {packet.RetainNotSupported, packet.NotAuthorized, packet.RetainNotSupported},
}

// connackCode is for a refused sign-in.
func connackCode(c devices.Code) byte { return cmp.Or(reasons[c].connack, packet.NotAuthorized) }

// ackCode is of a PUBACK or PUBREC, for what became of a publish.
func ackCode(c devices.Code) byte { return cmp.Or(reasons[c].ack, packet.PayloadInvalid) }

// disconnectCode is for a connection that the hub ends.
func disconnectCode(c devices.Code) byte { return cmp.Or(reasons[c].disconnect, packet.Unspecified) }

// connackReturn is the CONNACK return code of MQTT 3.1.1 (§3.2.2.3) for a
// reason code of MQTT 5.
func connackReturn(code byte) byte {
	switch code {
	case packet.Success:
		return 0
	case packet.UnsupportedVersion:
		return 1
	case packet.InvalidClientID:
		return 2
	case packet.QuotaExceeded, packet.ServerBusy, packet.ServerUnavailable, packet.ShuttingDown:
		return 3
	case packet.BadCredentials:
		return 4
	}
	return 5
}
