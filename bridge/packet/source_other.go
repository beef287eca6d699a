//go:build !unix

package packet

import "net"

// NewSource reads from a network connection.
func NewSource(c net.Conn) Source { return PlainSource{c} }
