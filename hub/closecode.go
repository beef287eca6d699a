package hub

// Close codes (RFC 6455 §7.4.1) that the hub uses.
const (
	CloseGoingAway      = 1001
	CloseProtocolError  = 1002
	CloseInvalidPayload = 1007
	ClosePolicy         = 1008
	CloseTooLarge       = 1009
	CloseInternal       = 1011
	CloseRestart        = 1012
	CloseTryAgainLater  = 1013
)
