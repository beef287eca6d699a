package bridge

import (
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

// connackCode is the CONNACK reason code of MQTT 5 for a refused sign-in.
func connackCode(c devices.Code) byte {
	switch c {
	case devices.CodeDeviceDisabled:
		return packet.Banned
	case devices.CodeRateLimited:
		return packet.QuotaExceeded
	case devices.CodeOverloaded:
		return packet.ServerBusy
	case devices.CodePlatformUnavailable:
		return packet.ServerUnavailable
	case devices.CodeTooLarge:
		return packet.TooLarge
	case devices.CodeRetainedCommand:
		return packet.RetainNotSupported
	}
	return packet.NotAuthorized
}

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

// ackCode is the reason code of a PUBACK or PUBREC (MQTT 5 §3.4.2.1 lists the
// valid ones) for what became of a publish.
func ackCode(c devices.Code) byte {
	switch c {
	case devices.CodeUnauthorized, devices.CodeTokenExpired, devices.CodeTokenRevoked, devices.CodeForbidden,
		devices.CodeDeviceDisabled, devices.CodeRetainedCommand:
		return packet.NotAuthorized
	case devices.CodeRateLimited, devices.CodeOverloaded:
		return packet.QuotaExceeded
	case devices.CodePlatformUnavailable:
		return packet.ImplementationError
	}
	return packet.PayloadInvalid
}

// disconnectCode is the DISCONNECT reason code of MQTT 5 with which the hub ends
// a connection.
func disconnectCode(c devices.Code) byte {
	switch c {
	case devices.CodeReplaced:
		return packet.SessionTakenOver
	case devices.CodeUnauthorized, devices.CodeTokenExpired, devices.CodeTokenRevoked, devices.CodeForbidden:
		return packet.NotAuthorized
	case devices.CodeDeviceDisabled:
		// Banned (0x8A) is a CONNACK's in MQTT 5 §3.14.2.1, but it is the hub's
		// published code and the only one that tells this apart from a revoked token.
		return packet.Banned
	case devices.CodeRateLimited:
		return packet.RateTooHigh
	case devices.CodeTooLarge:
		return packet.TooLarge
	case devices.CodeRetainedCommand:
		return packet.RetainNotSupported
	case devices.CodeOverloaded:
		return packet.ServerBusy
	case devices.CodePlatformUnavailable:
		return packet.ShuttingDown
	}
	return packet.Unspecified
}
