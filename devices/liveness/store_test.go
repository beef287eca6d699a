package liveness_test

import (
	"testing"

	"devicehub/devices/liveness"
	"devicehub/devices/liveness/storetest"
)

func TestMemory(t *testing.T) {
	m := new(liveness.Memory)
	storetest.Test(t, func(*testing.T) liveness.Store { return m })
}
