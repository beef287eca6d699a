package readings_test

import (
	"testing"

	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

func TestMemory(t *testing.T) {
	stores := map[string]readings.Store{}
	storetest.Test(t, func(t *testing.T) (readings.Store, func()) {
		if stores[t.Name()] == nil {
			stores[t.Name()] = readings.NewMemory()
		}
		return stores[t.Name()], func() {}
	}, nil)
}
