package broker_test

import (
	"testing"

	"devicehub/bridge/broker"
	"devicehub/bridge/broker/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Test(t, func(*testing.T) broker.Store { return new(broker.Memory) }, nil)
}
