// Package sim plays a fleet of devices against a hub, and judges whether the hub kept its promises:
// that every reading it acknowledged is stored exactly once, under its own name and in its order,
// that series make of readings what they are, that no command ran twice or has another end than its
// device knows of, that presence is right and devices are taken for who they are, that nobody hears
// what is not meant for him.
//
//	run, err := sim.New(sim.Config{Profile: p, Hub: u, Username: "admin", Password: pw})
//	report, err := run.Run(ctx)    // registers the devices, plays, judges, removes them
//	os.Exit(report.ExitCode())
//
// The load is open: every value and every command has its moment, whether or not the hub has
// answered the one before, and latency counts from that moment. The simulator measures its own lag
// too, and says so when it was itself too slow.
//
// Devices write their readings in every form that a hub takes, and do what devices do: leave and
// come straight back, sleep, share an identity by mistake, stand behind a broker, report before
// they answer or not at all. What a hub stamps itself is judged by its value, its order and the
// stretch of time in which it can have arrived. A reading at QoS 0 must be there when its
// connection did not break.
//
// Beside the fleet may come those who mean harm. What becomes of them is counted; the hub is
// judged by what good devices notice of them, and by whether it puts a stop to them at all.
//
// A Snapshot is one second of a run, for those who watch: where the devices stand, by transport,
// and how the hub answers. The Report has the verdicts. What nothing was seen of does not hold;
// only what the profile does not ask for, commands in a fleet of sensors for instance, is left
// open.
//
// Sub-packages: profile reads the YAML, device is the firmware of one device, bench compares plain
// Phoenix servers, hostile are those who mean harm.
package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"devicehub/firmware-sim/profile"
)

// Config is one run.
type Config struct {
	Profile *profile.Profile
	Hub     *url.URL // http://host:port
	MQTT    *url.URL // mqtt://host:port; nil: the hub's host, port 1883

	// Bridge is the broker to which devices speak that the profile puts behind a bridge. Its user, if it has one, is theirs:
	// their own tokens are not shown to it.
	Bridge *url.URL

	// Sources are local addresses from which devices connect, in turn. nil: as the system has it; to a hub on loopback from
	// as many of its addresses as the fleet needs ports.
	Sources []netip.Addr
	// Dial, if not nil, makes every connection of the run, wherever it comes from.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Sign-in of an administrator: Username and Password, or Token.
	Username, Password, Token string

	Duration time.Duration // instead of the profile's hold, if not 0
	Settle   time.Duration // how long devices may take at the end to get the rest acknowledged, 30 s by default
	Scale    float64       // of counts and rates, 1 by default
	Keep     bool          // leave the devices behind
	NoJudge  bool          // do not read back what was stored

	// Shard and Shards, if Shards is above 1, make this one of several runs that share a fleet: it plays every Shards-th
	// device, and its part of commands and watchers. Run is their common name.
	Shard, Shards int
	Run           string

	// Server, if not nil, runs the hub, and Broker the broker of Bridge, for faults that kill them.
	Server, Broker Server
	// Journal, if not nil, is where the run keeps what another process needs to take it up.
	Journal *Journal
	// Progress, if not nil, is called when a phase begins, and once a second while the fleet plays; from any goroutine.
	Progress func(Snapshot)
	Log      *slog.Logger
}

// Server is a hub or a broker that the simulator may kill.
type Server interface {
	// Kill ends it as kill -9 does.
	Kill() error
	// Start starts it again, and returns when it is ready.
	Start(ctx context.Context) error
}

// An Outage is a Server whose disk can be made to refuse every write.
type Outage interface {
	StoreOutage(on bool) error
}

// Sim is one run.
type Sim struct {
	cfg         Config
	profile     *profile.Profile
	run         string
	api         *API
	polls       []*http.Client // long polling, one for each address
	sources     []netip.Addr   // where they connect from, in turn
	buffers     sync.Pool
	stats       *stats
	units       []*unit
	began       time.Time // of a run that is taken up: as if it had never stopped
	resumed     time.Time // when this process began to play; began, in the first
	before      before
	unsaved     bool // the journal is broken
	judge       judge
	faults      faultLog
	besiegers   []*besieger
	person      *API   // who does harm; nil: nobody
	account     string // token of an account that does
	weather     weather
	wishes      chan func(due time.Time) // for the goroutine of the schedule
	measuring   sync.WaitGroup           // Hear
	history     []Snapshot
	offline     int           // at the end
	atEndOfLoad func()        // for tests
	grace       time.Duration // for the judgement and all else that follows the load
	events      []Event

	mu      sync.Mutex
	phase   string
	hold    time.Duration // 0: until stopped
	gone    bool          // the hub does not answer any more
	inForce []*inForce
}

// New prepares a run; nothing is sent. The error is about cfg.
func New(cfg Config) (*Sim, error) {
	if cfg.Profile == nil || cfg.Hub == nil {
		return nil, errors.New("sim: a profile and the hub's URL are required")
	}
	if cfg.Username == "" && cfg.Token == "" {
		return nil, errors.New("sim: a user name or a token is required")
	}
	if cfg.Scale <= 0 {
		cfg.Scale = 1
	}
	if cfg.Settle <= 0 {
		cfg.Settle = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MQTT == nil {
		cfg.MQTT = &url.URL{Scheme: "mqtt", Host: net.JoinHostPort(cfg.Hub.Hostname(), "1883")}
	}
	if cfg.Bridge == nil && slices.ContainsFunc(cfg.Profile.Fleet, func(g profile.Group) bool { return g.Via != nil }) {
		return nil, errors.New("sim: devices of the profile stand behind a bridge: its broker's URL is required (--bridge)")
	}
	if cfg.Run == "" {
		cfg.Run = NewRun()
	}
	cfg.Shards = max(cfg.Shards, 1)
	s := &Sim{cfg: cfg, profile: cfg.Profile, run: cfg.Run, stats: newStats(), phase: "registering",
		grace: 10 * time.Minute, wishes: make(chan func(time.Time), 64),
		api: NewAPI(cfg.Hub, cfg.Username, cfg.Password, cfg.Token)}
	s.sources = s.addresses()
	if cfg.Dial != nil {
		s.api.dial(cfg.Dial)
	}
	s.polls = s.pollers()
	if err := s.plan(); err != nil {
		return nil, err
	}
	s.planHostile()
	if err := cfg.CanBreak(cfg.Profile.Faults); err != nil {
		return nil, err
	}
	s.judge.journal = cfg.Journal
	return s, s.takeUp()
}

// CanBreak reports which of the faults needs a process that the simulator does not run.
func (c *Config) CanBreak(faults []profile.Fault) error {
	_, outage := c.Server.(Outage)
	for _, f := range faults {
		for _, p := range f.Kinds {
			switch {
			case p.Kind == profile.KillHub && c.Server == nil, p.Kind == profile.StoreOutage && !outage:
				return fmt.Errorf("sim: line %d: %s needs a hub that the simulator itself runs (--start-hub)", f.Line, p.Kind)
			case p.Kind == profile.BrokerOutage && c.Broker == nil:
				return fmt.Errorf("sim: line %d: %s needs a broker that the simulator itself runs (--start-broker)", f.Line, p.Kind)
			}
		}
	}
	return nil
}

// NewRun returns the name of a run: six random characters, so that two runs never share an id.
func NewRun() string {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var b [6]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = digits[b[i]%32]
	}
	return string(b[:])
}

// IDs returns the ids of the fleet's devices.
func (s *Sim) IDs() []string {
	out := make([]string, len(s.units))
	for i, u := range s.units {
		out[i] = u.id
	}
	return out
}

// API returns the administrator's client of the run.
func (s *Sim) API() *API { return s.api }

// Run registers the fleet, plays until the profile's hold is over or ctx is done, waits until the rest is acknowledged,
// judges, and removes the devices. What it finds is in the report; the error is only about what kept it from playing.
func (s *Sim) Run(ctx context.Context) (*Report, error) {
	defer s.api.Close()
	for _, c := range s.polls {
		defer c.CloseIdleConnections()
	}
	registered, err := s.register(ctx)
	if err != nil && s.cfg.Journal.Resumed() {
		return nil, err // it can be taken up again
	}
	// From here on ctx ends the play, not the judgement.
	after, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if registered && (err != nil || !s.cfg.Keep) {
		defer s.unregister(after)
	}
	if registered {
		defer s.dismiss(after)
	}
	if err != nil {
		return nil, err
	}
	s.play(ctx, after, cancel)
	s.measuring.Wait()
	s.cfg.Journal.silence()
	s.judgeDevices()
	switch {
	case s.cfg.NoJudge:
	case s.reachable(after):
		s.setPhase("judging")
		s.judgeAll(after)
	default:
		s.judge.unable("the hub does not answer: nothing was read back")
	}
	return s.report(), nil
}

// hubPatience is how long a hub may not answer at the end of a run before it is given up.
const hubPatience = 5 * time.Second

// reachable is false for good once the hub has been given up.
func (s *Sim) reachable(ctx context.Context) bool {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone || s.api.Reachable(ctx, hubPatience) {
		return !gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	return false
}

// rate is a rate of the profile, as far as it falls to this process.
func (s *Sim) rate(r float64) float64 { return r * s.cfg.Scale / float64(s.cfg.Shards) }

// playing is the phase in which there is load.
const playing = "playing"

func (s *Sim) setPhase(p string) {
	s.mu.Lock()
	s.phase = p
	s.happened(p)
	s.mu.Unlock()
	if s.cfg.Progress != nil {
		s.cfg.Progress(s.Live())
	}
}

func (s *Sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.happened(fmt.Sprintf(format, args...))
}

// happened adds an event. The lock is held.
func (s *Sim) happened(text string) {
	e := Event{At: time.Now(), Text: text}
	s.events = append(s.events, e)
	s.cfg.Journal.json(lineEvent, "", e)
}

// An Event is something that the simulator did, for the report's time line.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// play runs devices, schedule, people and faults together, and returns when all have ended.
// What follows the load has its time; then end is called.
func (s *Sim) play(ctx, after context.Context, end func()) {
	hold := s.cfg.Duration
	if hold == 0 {
		hold = s.profile.Load.Hold
	}
	if hold == 0 {
		hold = s.profile.Load.Length()
	}
	s.mu.Lock()
	s.resumed, s.hold = time.Now(), hold
	s.began = s.resumed.Add(-s.before.elapsed)
	s.mu.Unlock()
	s.setPhase(playing)
	load, endLoad := context.WithCancel(ctx)
	defer endLoad()
	if hold > 0 {
		hold = s.left(hold)
		load, endLoad = context.WithTimeout(ctx, hold)
		defer endLoad()
	}
	fleet, switchOff := context.WithCancel(after)
	defer switchOff()

	var devices, people sync.WaitGroup
	observer, endObserver := context.WithCancel(after)
	var observing sync.WaitGroup
	observing.Go(func() { s.observe(observer) })

	people.Go(func() { s.warmUp(load) })
	people.Go(func() { s.switchOn(load, fleet, &devices) })
	people.Go(func() { s.schedule(load) })
	people.Go(func() { s.command(load) })
	people.Go(func() { s.watch(load, &people) })
	people.Go(func() { s.breakThings(load, after) })
	people.Go(func() { s.besiege(load) })
	people.Go(func() { s.checkPresence(load) })
	people.Wait()
	if s.atEndOfLoad != nil {
		s.atEndOfLoad()
	}
	time.AfterFunc(s.cfg.Settle+s.grace, end)
	s.settle(after)
	s.awaitDelivery(after)
	endObserver()
	observing.Wait()
	switchOff()
	devices.Wait()
	for _, u := range s.units {
		u.ledger.closed(true) // whoever was there has left in order
	}
}

func (s *Sim) warmUp(ctx context.Context) {
	d := s.profile.Load.Warmup
	if d == 0 {
		d = 2 * time.Second
		if s.profile.Load.Ramp > 0 {
			d += time.Duration(float64(len(s.units)) / (s.rate(s.profile.Load.Ramp)) * float64(time.Second))
		}
		if stages := s.profile.Load.Stages; len(stages) > 0 {
			d += max(0, stages[0].For-s.before.elapsed)
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
		s.stats.warm.Store(true)
	}
}

// switchOn powers the devices up, as the ramp or the stages say.
func (s *Sim) switchOn(load, fleet context.Context, wg *sync.WaitGroup) {
	for i, u := range s.units {
		at, ever := s.powerOn(i)
		if !ever {
			return
		}
		sleep(load, time.Until(at))
		if load.Err() != nil {
			return
		}
		wg.Go(func() {
			u.turn(on)
			err := u.dev.Run(fleet)
			u.turn(off)
			if err != nil {
				u.turn(failed)
				s.stats.failed("device_ended")
				s.cfg.Log.Warn("device ended", "device", u.id, "err", err)
			}
		})
	}
}

// powerOn is when a device is switched on, never if no stage reaches it. What was on before, in a run that is taken up, comes
// back at the rate of the ramp.
func (s *Sim) powerOn(i int) (time.Time, bool) {
	rate := s.rate(s.profile.Load.Ramp)
	at, ever := s.profile.Load.SwitchOn(i, len(s.units), rate)
	if on := s.began.Add(at); !ever || !on.Before(s.resumed) {
		return on, ever
	}
	if rate <= 0 {
		rate = 500
	}
	return s.resumed.Add(time.Duration(float64(i) / rate * float64(time.Second))), true
}

// settle gives the devices time to get the rest acknowledged; then they are switched off.
func (s *Sim) settle(ctx context.Context) {
	s.setPhase("settling")
	began := time.Now()
	deadline := began.Add(s.cfg.Settle)
	for _, u := range s.units {
		u.reconnect()
		u.dev.Flush(time.Now())
	}
	for time.Now().Before(deadline) && ctx.Err() == nil {
		left, away, up := 0, 0, false
		for _, u := range s.units {
			up = up || u.isUp()
			if missing, _ := u.missing(); missing {
				away++
			}
			if n := u.dev.Backlog(); n > 0 {
				left += n
				u.dev.Flush(time.Now())
			}
		}
		// What was dropped a moment ago has the time to come back, too.
		if left == 0 && (away == 0 || time.Since(began) > 5*time.Second) || !up && !s.reachable(ctx) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	never, reason := 0, error(nil)
	for _, u := range s.units {
		missing, why := u.missing()
		if missing {
			s.offline++
		}
		if why != nil {
			never, reason = never+1, why
		}
	}
	if never > 0 {
		s.judge.unable("%d of %d devices were never connected: %v", never, len(s.units), reason)
	}
}
