package identity_test

import (
	"testing"

	"devicehub/devices/identity"
	"devicehub/devices/identity/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Test(t, func(*testing.T) identity.Store { return &identity.Memory{} }, func(_ *testing.T, s identity.Store) identity.Store { return s })
}
