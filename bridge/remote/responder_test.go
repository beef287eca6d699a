package remote

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/liveness"
	"devicehub/devices/shadow"
)

// obedient is a hub with real commands, and behind its bridge a broker with lamps
// of Zigbee2MQTT that echo at once what they are told.
type obedient struct {
	t    *testing.T
	cmds *commands.Dispatcher
}

func newObedient(t *testing.T, lamps int) *obedient {
	t.Helper()
	var list []string
	var ds []*devices.Device
	for i := range lamps {
		name := fmt.Sprintf("lamp-%d", i)
		list = append(list, fmt.Sprintf(`{"ieee_address":"0x%d","type":"Router","friendly_name":%q,"definition":{"model":"m","vendor":"v","exposes":[`+
			`{"type":"light","features":[{"name":"state","property":"state"},{"name":"brightness","property":"brightness","value_max":254}]}]}}`, i, name))
		ds = append(ds, &devices.Device{ID: devices.ID(name), Kinds: []devices.Kind{devices.KindLight}, Via: "house", Enabled: true,
			Labels: map[string]string{"z2m": fmt.Sprint("0x", i)}, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}}})
	}
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, ds...)
	live, err := liveness.New(t.Context(), liveness.Config{Store: new(liveness.Memory), Registry: h.Registry})
	if err != nil {
		t.Fatal(err)
	}
	shadows, err := shadow.New(t.Context(), shadow.Config{Store: new(shadow.Memory), Registry: h.Registry})
	if err != nil {
		t.Fatal(err)
	}
	cmds, err := commands.New(t.Context(), commands.Config{Store: new(commands.Memory), Registry: h.Registry, Shadows: shadows, Liveness: live})
	if err != nil {
		t.Fatal(err)
	}
	h.Hub.Commands, h.Hub.Liveness, h.Hub.Status, h.Hub.Log = cmds, live, live.Status, slog.New(slog.DiscardHandler)
	b, err := New(Config{Name: "house", URL: "mqtt://" + m.addr(), Trust: true, Adapters: []adapter.Config{{Kind: "z2m"}}}, h.Hub)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{live.Run, shadows.Run, cmds.Run, b.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })

	c := m.client(t, "z2m")
	t.Cleanup(func() { c.Disconnect(10) })
	c.Subscribe("zigbee2mqtt/+/set", 1, func(c mqtt.Client, msg mqtt.Message) {
		c.Publish(strings.TrimSuffix(msg.Topic(), "/set"), 0, false, msg.Payload())
	}).Wait()
	h.WantThat(t, "bridge up", func() bool { return b.Status().Connected })
	c.Publish("zigbee2mqtt/bridge/devices", 1, true, "["+strings.Join(list, ",")+"]").Wait()
	h.WantThat(t, "all lamps heard of", func() bool {
		n := 0
		for _, d := range ds {
			if _, err := cmds.Issue(t.Context(), devices.CLI(), devices.Origin{}, d.ID, commands.Request{Op: "refresh"}); err == nil {
				n++
			}
		}
		return n == len(ds)
	})
	return &obedient{t, cmds}
}

// sets gives a lamp n sets, each when the one before has come to an end, and
// counts what they came to.
func (o *obedient) sets(id devices.ID, n int) map[commands.Status]int {
	came := map[commands.Status]int{}
	for i := range n {
		rc, err := o.cmds.Issue(o.t.Context(), devices.CLI(), devices.Origin{}, id, commands.Request{Op: "set", Params: fmt.Appendf(nil, `{"brightness":%d}`, 1+i)})
		if err != nil {
			o.t.Errorf("%s: %v", id, err)
			return came
		}
		ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Second)
		r, err := o.cmds.Wait(ctx, id, rc.CmdID, "confirmed")
		cancel()
		came[r.Status]++
		if r.Hops.Confirm == nil || *r.Hops.Confirm < 0 || *r.Hops.Confirm > 500 {
			o.t.Errorf("%s, %d: got %+v %v", id, i, r, err)
		}
	}
	return came
}

// Lamps that answer before the hub has noted that their commands left are
// confirmed by that answer.
func TestLampsThatAnswerAtOnce(t *testing.T) {
	for _, tt := range []struct{ lamps, sets int }{{20, 10}, {1, 150}} {
		t.Run(fmt.Sprintf("%dx%d", tt.lamps, tt.sets), func(t *testing.T) {
			t.Parallel()
			o := newObedient(t, tt.lamps)
			var wg sync.WaitGroup
			for i := range tt.lamps {
				wg.Go(func() {
					id := devices.ID(fmt.Sprint("lamp-", i))
					if came := o.sets(id, tt.sets); came[commands.Confirmed] != tt.sets {
						t.Errorf("%s: got %v, want %d confirmed", id, came, tt.sets)
					}
				})
			}
			wg.Wait()
			if st := o.cmds.Stats(); st.Resent != 0 || st.Refreshed != 0 {
				t.Errorf("counted %+v, want nothing sent twice nor asked for", st)
			}
		})
	}
}
