// Package device is the firmware of a simulated device: what a real one on a microcontroller does, and nothing more. It
// measures, numbers its readings per boot, keeps them until the hub has acknowledged them, and sends again only what the
// hub has not; it executes commands once each, remembers the last 32, and reports the state of its light. It speaks
// Phoenix channels over WebSocket or long polling, or MQTT, and comes back by itself when the connection is lost.
//
// Source: devices/PROTOCOL.md.
package device

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A Transport names how a device reaches the hub.
type Transport string

// The transports.
const (
	WebSocket Transport = "websocket"
	LongPoll  Transport = "longpoll"
	MQTT      Transport = "mqtt"  // 3.1.1
	MQTT5     Transport = "mqtt5" // 5
)

// Config is a device as it leaves the factory. ID, Token, and the address of its transport are required.
type Config struct {
	ID        string
	Token     string
	Sensor    bool
	Light     *LightConfig // nil: not a light
	Transport Transport    // WebSocket by default
	Firmware  string

	Hub  *url.URL // http or https, for channels
	MQTT *url.URL // mqtt or mqtts; a user in it signs in in place of the device
	Root string   // of the MQTT topics, hub/v1 by default

	// ClientID is the device's name to an MQTT broker, ID by default.
	ClientID string
	// NoBoot says that the device does not tell its power-ups apart; its readings have no numbers
	// then.
	NoBoot bool
	// Style is how readings are written.
	Style Style

	// Bridged says that MQTT is a broker that is not the hub's, which is not shown the token. Carry, if not empty, is a
	// token for the hub behind it that goes in every JSON message.
	Bridged bool
	Carry   string

	// Store is how many readings the device can hold that the hub has not acknowledged, 2000 by default. What is measured
	// beyond is not recorded (and gets no number).
	Store int
	// Batch is how many readings go in one push, 1 by default; the hub takes up to 500.
	Batch int
	// InFlight is how many pushes may be unanswered, 4 by default; the hub allows 8.
	InFlight int

	// Clock is the device's own, which may be wrong. nil: time.Now.
	Clock func() time.Time
	Seed  uint64 // of everything random here but the boot id and the back-off
	// Backoff returns the delay before connect attempt n, from 1. nil: 0.1 to 5 s, jittered.
	Backoff func(n int) time.Duration

	// Flash is what survived the loss of power before.
	Flash Flash

	Hooks Hooks
	Log   *slog.Logger

	// Shared by the devices of one process, each may be nil.
	HTTP         *http.Client
	WriteBuffers *sync.Pool
	Dial         func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Flash is what a device keeps through a loss of power.
type Flash struct {
	Readings []Reading // that the hub has not answered, oldest first
	LastT    int64     // the time of the newest that it ever recorded
	Commands []string  // that it executed, oldest first
}

// Hooks tell an observer what happens. Each may be nil, must not block, and may be called from any goroutine.
type Hooks struct {
	Up   func(Up)
	Down func(error)
	// Unable hears why an attempt to connect came to nothing. There will be another.
	Unable func(error)
	// Sent hears of readings that were handed to a connection, in the order in which they go there;
	// of some more than once. What is sent at most once is never heard of again. It may come before
	// or after the answer.
	Sent func([]Reading)
	// Acked hears of readings that the hub has decided: stored, or had before. Refused of those it will never take.
	Acked   func(Ack)
	Refused func(r Reading, code string)
	// Error hears the code of every error that the hub answered with, but for those of readings, of
	// which Refused hears.
	Error func(code string)
	// Command hears of each envelope that arrived, and whether its id was known already; Ran when one was executed.
	Command func(c Command, repeated bool)
	Ran     func(c Command)
	// Answered hears of each answer to a command as it leaves, Reported of each state. What they
	// return, if not nil, is called when the hub has acknowledged it.
	Answered func(id, status string) func()
	Reported func(LightState) func()
	// Leak hears of an event that is not meant for a device: readings, states or presence of whomever.
	Leak func(event string)
	// Frame sees each frame or packet payload, for people who watch.
	Frame func(out bool, topic string, data []byte)
}

// Up tells of a connection on which every topic of the device is joined.
type Up struct {
	Attempt int
	Connect time.Duration // until the hub accepted the connection
	Join    time.Duration // from then until the last join reply, or subscription
}

// An Ack tells what the hub has acknowledged with one push.
type Ack struct {
	Readings []Reading
	Due      time.Time // when the push should have left
	Replayed bool      // it was sent again, or late because the device was offline
}

// A Reading is one measured value. Its number is given when it is recorded.
type Reading struct {
	Metric string
	Value  any    // float64, bool or string
	Unit   string // "" is the metric's own
	At     time.Time
	T      int64 // ms since epoch by the device's clock
	Boot   string
	Seq    uint64 // 0: it has none
	Form   Form
}

// Device is a running or startable device. Its methods may be called from any goroutine.
type Device struct {
	cfg  Config
	link link

	mu     sync.Mutex
	rand   *rand.Rand
	token  string
	boot   string
	seq    uint64 // the last given
	lastT  int64
	store  store
	up     bool // the sensor's topic is joined
	upAt   time.Time
	gen    int // of the connection; answers of an older one are void
	flight int

	failures  int       // pushes in a row that came to nothing
	quietTill time.Time // because of them

	form     Form // of the push that is being filled
	formLeft int  // readings that still go into it

	jobs    []func() // pushes to be made once the lock is released, in their order
	working bool     // somebody makes them

	duplicate, reorder float64 // Disturb
	blip               blipMoment
	parting            bool // Leave: what is measured now is sent at most once

	ring    ring
	light   *light
	timers  map[*time.Timer]struct{}
	stopped bool
	wg      sync.WaitGroup
}

// link is a transport seen from the device. Its methods do not block. Each answer is called at most once, from any
// goroutine; none comes after the link has told the device that it is down.
type link interface {
	run(ctx context.Context) error
	// readings reports whether the push went to a connection. If not, it is answered as one that
	// came to nothing.
	readings(p push, answer func(verdict)) bool
	// state and ack call taken, if not nil, when the hub has what was sent.
	state(payload []byte, taken func())
	ack(payload []byte, to answerTo, taken func())
	raw(event string, payload []byte)
	drop(stay time.Duration)
	// cork holds back what is sent until the device leaves, so that it goes in one piece.
	cork()
	// leave closes the connection in order, behind what was sent, and comes back after stay.
	leave(stay time.Duration)
	abandon(stay time.Duration)
	reconnect()
	stall(d time.Duration)
	garbage()
	stage() Stage
}

// push is a message with readings.
type push struct {
	payload []byte
	n       int
	form    Form
	metric  string // of the first
}

// verdict is what became of a push.
type verdict struct {
	decided  bool // false: try again after retry
	unheard  bool // it was sent at most once: nobody knows
	retry    time.Duration
	refused  map[int]string // index to code
	code     string         // of an error reply
	replayed int            // how many the hub had before
}

// New returns a device that is switched off.
func New(cfg Config) (*Device, error) {
	if cfg.Transport == "" {
		cfg.Transport = WebSocket
	}
	if cfg.Root == "" {
		cfg.Root = "hub/v1"
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Store <= 0 {
		cfg.Store = 2000
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 1
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 4
	}
	if cfg.ClientID == "" {
		cfg.ClientID = cfg.ID
	}
	cfg.Style.Plain = cfg.Style.Plain || cfg.NoBoot
	cfg.Style.fits(cfg.Transport == MQTT || cfg.Transport == MQTT5, cfg.Batch)
	d := &Device{cfg: cfg, token: cfg.Token, boot: newBoot(), rand: rand.New(rand.NewPCG(cfg.Seed, 0x6465766963650000))}
	d.store.waiting, d.lastT = append(d.store.waiting, cfg.Flash.Readings...), cfg.Flash.LastT
	for _, id := range cfg.Flash.Commands {
		d.ring.add(id, "done")
	}
	d.cfg.Flash = Flash{}
	if cfg.Light != nil {
		d.light = newLight(*cfg.Light)
	}
	switch cfg.Transport {
	case WebSocket, LongPoll:
		if cfg.Hub == nil {
			return nil, fmt.Errorf("device %s: no hub URL", cfg.ID)
		}
		l, err := newPhoenix(d)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", cfg.ID, err)
		}
		d.link = l
	case MQTT, MQTT5:
		if cfg.MQTT == nil {
			return nil, fmt.Errorf("device %s: no MQTT URL", cfg.ID)
		}
		d.link = newMQTT(d, mqtt3{})
		if cfg.Transport == MQTT5 {
			d.link = newMQTT(d, mqtt5{})
		}
	default:
		return nil, fmt.Errorf("device %s: unknown transport %q", cfg.ID, cfg.Transport)
	}
	return d, nil
}

// Run switches the device on until ctx is done, and leaves no goroutine behind. It may be called once.
func (d *Device) Run(ctx context.Context) error {
	err := d.link.run(ctx)
	d.mu.Lock()
	d.stopped = true
	for t := range d.timers {
		if t.Stop() {
			d.wg.Done()
		}
	}
	d.mu.Unlock()
	d.wg.Wait()
	return err
}

// ID returns the device's id.
func (d *Device) ID() string { return d.cfg.ID }

// Drop breaks the connection abruptly and stays away for at least stay; Abandon leaves it half open.
func (d *Device) Drop(stay time.Duration)    { d.link.drop(stay) }
func (d *Device) Abandon(stay time.Duration) { d.link.abandon(stay) }

// Leave has say make the device measure its last values, sends them (over MQTT at most once), and
// closes the connection in order, all in one go. The device comes back after stay, with reboot as
// another power-up.
func (d *Device) Leave(stay time.Duration, reboot bool, say func()) {
	d.link.cork()
	d.part(true)
	say()
	d.Flush(time.Now())
	d.part(false)
	d.mu.Lock()
	defer d.unlock()
	d.jobs = append(d.jobs, func() { d.link.leave(stay) })
	if reboot {
		d.reboot()
	}
}

func (d *Device) part(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parting, d.formLeft = yes, 0
}

// Reconnect ends a stay.
func (d *Device) Reconnect() { d.link.reconnect() }

// Raw sends an event as it is, and forgets it: for those who misbehave. The payload is JSON.
func (d *Device) Raw(event string, payload []byte) { d.link.raw(event, payload) }

// Restart is a power cycle: a new boot with numbers from 1. What was stored survives, as in flash,
// and which commands were executed.
func (d *Device) Restart() {
	d.mu.Lock()
	d.reboot()
	d.mu.Unlock()
	d.link.drop(0)
}

// reboot begins another power-up. The lock is held.
func (d *Device) reboot() {
	d.boot, d.seq, d.formLeft = newBoot(), 0, 0
	d.ring = d.ring.ended()
}

// Boot returns the id of the present boot.
func (d *Device) Boot() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.boot
}

// Backlog is how many readings wait for their acknowledgement.
func (d *Device) Backlog() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store.len()
}

// newBoot returns a random id of a power-up, 16 characters.
func newBoot() string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	var b [16]byte
	for i := range b {
		b[i] = digits[rand.N(len(digits))]
	}
	return string(b[:])
}

// unlock releases the lock and makes the pushes that were decided on under it: a link may call back
// at once. Whoever makes some makes those of the others as well, so that they go in the order in
// which they were decided on.
func (d *Device) unlock() {
	if d.working {
		d.mu.Unlock()
		return
	}
	d.working = true
	for len(d.jobs) > 0 {
		jobs := d.jobs
		d.jobs = nil
		d.mu.Unlock()
		for _, f := range jobs {
			f()
		}
		d.mu.Lock()
	}
	d.working = false
	d.mu.Unlock()
}

// after runs f later unless the device is switched off by then. The lock is held.
func (d *Device) after(delay time.Duration, f func()) {
	if d.stopped {
		return
	}
	if d.timers == nil {
		d.timers = make(map[*time.Timer]struct{})
	}
	d.wg.Add(1)
	var t *time.Timer
	t = time.AfterFunc(delay, func() {
		defer d.wg.Done()
		d.mu.Lock()
		delete(d.timers, t)
		stopped := d.stopped
		d.mu.Unlock()
		if !stopped {
			f()
		}
	})
	d.timers[t] = struct{}{}
}

func (d *Device) failed(code string) {
	if d.cfg.Hooks.Error != nil && code != "" {
		d.cfg.Hooks.Error(code)
	}
}

// isUp and isDown are called by the link. resent says from where to go on, per boot, if the hub said so.
func (d *Device) isUp(through map[string]uint64) {
	d.mu.Lock()
	d.up, d.upAt = true, time.Now()
	d.gen++
	d.flight, d.failures, d.quietTill = 0, 0, time.Time{}
	known := d.store.rewind(through)
	d.send()
	d.unlock()
	if len(known) > 0 && d.cfg.Hooks.Acked != nil {
		d.cfg.Hooks.Acked(Ack{Readings: known, Replayed: true})
	}
}

func (d *Device) isDown(err error) {
	d.mu.Lock()
	d.up = false
	d.gen++
	d.flight = 0
	d.mu.Unlock()
	if d.cfg.Hooks.Down != nil {
		d.cfg.Hooks.Down(err)
	}
}

func (d *Device) setToken(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if token != "" {
		d.token = token
	}
}

func (d *Device) getToken() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.token
}

func jsonString(s string) []byte {
	b, _ := json.Marshal(s) // a string always marshals
	return b
}
