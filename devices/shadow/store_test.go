package shadow_test

import (
	"testing"

	"devicehub/devices/shadow"
	"devicehub/devices/shadow/storetest"
)

func TestMemory(t *testing.T) {
	m := new(shadow.Memory)
	storetest.Test(t, func(*testing.T) shadow.Store { return m })
}
