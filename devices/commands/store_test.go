package commands_test

import (
	"testing"

	"devicehub/devices/commands"
	"devicehub/devices/commands/storetest"
)

func TestMemory(t *testing.T) {
	m := new(commands.Memory)
	storetest.Test(t, func(*testing.T) commands.Store { return m })
}
