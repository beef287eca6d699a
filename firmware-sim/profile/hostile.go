package profile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A HostileKind names what those do who mean harm.
type HostileKind string

// The kinds of harm. Stolen devices, people and service accounts are made for the run, and removed
// after it.
const (
	// By a stolen device, each party with one of its own.
	FloodReadings HostileKind = "flood_readings" // pushes of readings, of size bytes each
	FloodTokens   HostileKind = "flood_tokens"   // asks for a new token
	FloodEvents   HostileKind = "flood_events"   // events that there are not, of size bytes each

	// By strangers.
	WrongTokens     HostileKind = "wrong_tokens"     // connects with tokens that are none
	IdleConnections HostileKind = "idle_connections" // opens a connection and says nothing
	HalfRequests    HostileKind = "half_requests"    // begins a request and never ends it
	DeafReaders     HostileKind = "deaf_readers"     // asks and does not read the answers
	ForeignOrigins  HostileKind = "foreign_origins"  // asks as another site's page, whose name has size bytes
	JunkConnects    HostileKind = "junk_connects"    // connects over MQTT with what is no CONNECT

	// By a person who may look on, and do nothing else.
	FloodCommands  HostileKind = "flood_commands"  // commands, each of which is to be refused
	HoardLongPolls HostileKind = "hoard_longpolls" // opens sessions and polls none
	SlowWatchers   HostileKind = "slow_watchers"   // watches, asks, and does not read

	// By a service account with a topic filter of its own.
	HoardRetained HostileKind = "hoard_retained" // retained messages with size bytes beside the payload
	HoardSessions HostileKind = "hoard_sessions" // MQTT sessions that are to be kept
)

// By says who does harm of a kind.
type By uint8

// Who does harm.
const (
	ByDevice By = iota
	ByStranger
	ByPerson
	ByAccount
)

// String is in the plural.
func (b By) String() string {
	return [...]string{"stolen devices", "strangers", "connections of a person", "connections of an account"}[b]
}

// hostileKind is what is known of a kind, and its knobs unless the profile turns them.
type hostileKind struct {
	by         By
	rate       float64 // 0: it is as fast as it can be
	size       int     // 0: it has none
	transports []string
	within     time.Duration
	cut        bool // nothing but the end of the connection, or a refusal, puts a stop to it
}

var (
	channelsOrMQTT = []string{"websocket", "longpoll", "mqtt", "mqtt5"}
	socketOrMQTT   = []string{"websocket", "mqtt", "mqtt5"}
	mqttOnly       = []string{"mqtt5", "mqtt"}
)

var hostileKinds = map[HostileKind]hostileKind{
	FloodReadings:   {by: ByDevice, rate: 500, size: 1000, transports: channelsOrMQTT, within: 10 * time.Second},
	FloodTokens:     {by: ByDevice, rate: 500, transports: channelsOrMQTT, within: 10 * time.Second},
	FloodEvents:     {by: ByDevice, rate: 1000, size: 100, transports: channelsOrMQTT, within: 10 * time.Second},
	WrongTokens:     {by: ByStranger, rate: 50, transports: socketOrMQTT, within: 5 * time.Second},
	IdleConnections: {by: ByStranger, within: 20 * time.Second, cut: true},
	HalfRequests:    {by: ByStranger, within: 30 * time.Second, cut: true},
	DeafReaders:     {by: ByStranger, within: 50 * time.Second, cut: true},
	ForeignOrigins:  {by: ByStranger, rate: 200, size: 8000, within: 5 * time.Second},
	JunkConnects:    {by: ByStranger, rate: 50, within: 20 * time.Second, cut: true},
	FloodCommands:   {by: ByPerson, rate: 500, transports: []string{"websocket", "longpoll"}, within: 10 * time.Second},
	HoardLongPolls:  {by: ByPerson, rate: 50, within: 5 * time.Second},
	SlowWatchers:    {by: ByPerson, rate: 200, within: 40 * time.Second, cut: true},
	HoardRetained:   {by: ByAccount, rate: 1000, size: 50_000, transports: mqttOnly, within: 30 * time.Second},
	HoardSessions:   {by: ByAccount, rate: 50, transports: mqttOnly, within: 20 * time.Second},
}

// HostileKinds are all kinds, by name.
func HostileKinds() []HostileKind { return slices.Sorted(maps.Keys(hostileKinds)) }

// Hostile is a number of parties that do harm of one kind, from a moment on.
type Hostile struct {
	Kind  HostileKind
	Line  int
	At    time.Duration
	For   time.Duration
	Count int     // of parties
	Pct   float64 // of the fleet's devices, as many parties, in place of Count; 0: none

	Rate      float64 // of each party, per second
	Size      int     // bytes
	Transport string

	// Within is for how long all of it together may go on before the hub puts a stop to some.
	Within time.Duration
}

// By says who they are.
func (h *Hostile) By() By { return hostileKinds[h.Kind].by }

// MustCut reports whether nothing but a refusal or the end of the connection puts a stop to it:
// that the hub takes nothing more is what they are after.
func (h *Hostile) MustCut() bool { return hostileKinds[h.Kind].cut }

// Parties is how many there are at a scale, in a fleet of so many devices: one at least.
func (h *Hostile) Parties(scale float64, devices int) int {
	n := float64(h.Count) * scale
	if h.Pct > 0 {
		n = float64(devices) * h.Pct / 100
	}
	return max(1, int(math.Round(n)))
}

// String is for plans and time lines.
func (h *Hostile) String() string {
	s := fmt.Sprintf("%s by %d %v", h.Kind, h.Count, h.By())
	if h.Pct > 0 {
		s = fmt.Sprintf("%s by %v, %g %% as many as the fleet has", h.Kind, h.By(), h.Pct)
	}
	if h.Transport != "" {
		s += " over " + h.Transport
	}
	if h.Rate > 0 {
		s += fmt.Sprintf(", %g/s each", h.Rate)
	}
	if h.Size > 0 {
		s += fmt.Sprintf(", %d bytes", h.Size)
	}
	return s + fmt.Sprintf(", for %v", h.For)
}

// parseHostile reads one entry: a moment, and one kind or more.
func parseHostile(n *yaml.Node) (out []Hostile, err error) {
	var from time.Duration
	known := keys{"at": func(n *yaml.Node) error { return duration(n, &from) }}
	for kind, about := range hostileKinds {
		known[string(kind)] = func(n *yaml.Node) error {
			h := Hostile{Kind: kind, Line: n.Line, Count: 1, For: 10 * time.Second, Within: about.within,
				Rate: about.rate, Size: about.size}
			if len(about.transports) > 0 {
				h.Transport = about.transports[0]
			}
			out = append(out, h)
			return out[len(out)-1].parse(n, about)
		}
	}
	if err := object(n, known); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, at(n, "hostile: what they do is missing: one of %s", kindNames())
	}
	for i := range out {
		out[i].At = from
	}
	return out, nil
}

func kindNames() string {
	var names []string
	for _, k := range HostileKinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// parse reads the knobs that a kind has.
func (h *Hostile) parse(n *yaml.Node, about hostileKind) error {
	knobs := keys{
		"count":  func(n *yaml.Node) error { return between(n, &h.Count, 1, 10_000) },
		"for":    func(n *yaml.Node) error { return duration(n, &h.For) },
		"within": func(n *yaml.Node) error { return duration(n, &h.Within) },
	}
	if about.by == ByDevice || about.by == ByStranger {
		knobs["pct"] = func(n *yaml.Node) error { return number(n, &h.Pct, 0, 100) }
	}
	if about.rate > 0 {
		knobs["rate"] = func(n *yaml.Node) error { return rate(n, &h.Rate) }
	}
	if about.size > 0 {
		knobs["size"] = func(n *yaml.Node) error { return between(n, &h.Size, 1, 60_000) }
	}
	if len(about.transports) > 0 {
		knobs["transport"] = func(n *yaml.Node) error {
			if h.Transport = n.Value; !slices.Contains(about.transports, n.Value) {
				return at(n, "transport: %q is none of %s", n.Value, strings.Join(about.transports, ", "))
			}
			return nil
		}
	}
	return object(n, knobs)
}
