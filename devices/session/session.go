package session

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
)

// Link is a transport's side of one device connection. Its methods may be
// called from any goroutine, also after the connection is gone.
type Link interface {
	// Send hands the device an event meant for it: command, ping, config,
	// token_expiring. It never blocks; false means that the link is closed,
	// its queue is full, or the device does not listen.
	Send(k devices.Kind, event string, payload any) bool
	// End tells the device why with a disconnect event {code,reason,by_epoch?}
	// and closes the connection. It returns at once.
	End(code devices.Code, reason string, byEpoch int64)
}

// Settler is a Link whose transport can tell when it has handed on everything that
// it had received. A newer connection of the device waits for that before it takes
// over: a goodbye may be among it.
type Settler interface {
	// Settle waits until what the device has sent is handed to the Session, as far
	// as it has arrived, or the connection is over, which it reports. A connection
	// that is held up is given patience, and any other at most most.
	Settle(patience, most time.Duration) (over bool)
}

// Hello is what a transport knows of a device when it connects.
type Hello struct {
	Principal identity.Principal
	Device    devices.ID
	Transport devices.Transport
	Addr      string // the peer's address
	Boot      string // if known so early
	Client    string // what the client calls itself, where the transport has a word for it
	// OfflineAfter is how long after the last sign of life the transport gives
	// the connection up.
	OfflineAfter time.Duration
	// Window is how many commands may be unacknowledged at once; 0 means no bound.
	Window int
	// Arrival is Admit's, where that was called.
	Arrival *Arrival
	// InFlight is how many pushes of readings may wait for the disk at once; 0 means the Limits'.
	InFlight int
}

// Session is one connection of one device. Its methods may be called from any
// goroutine.
type Session struct {
	door      *Door
	link      Link
	device    devices.ID
	transport devices.Transport
	account   *quota.Account // of the device, over all its connections
	hello     Hello
	turn      uint32 // which second of a minute it is tended in
	ctx       context.Context
	cancel    context.CancelFunc
	gone      chan struct{} // closed when Close is through

	mu        sync.Mutex
	principal identity.Principal
	epoch     int64 // 0 until admitted with a token in force
	boot      string
	about     JoinParams
	joined    map[devices.Kind]bool
	listening bool
	inFlight  int
	pinged    time.Time // when the unanswered ping was sent
	pingN     int64
	warned    bool // token_expiring was sent
	config    configured
	ended     devices.Code
	closed    bool
}

// Open lets a device in: its token, its record and its way in are checked, and
// its connection replaces an older one. The error is a *devices.Error: the
// codes of identity, device_disabled, forbidden, or rate_limited where two
// devices fight over one identity.
//
// A device whose token is genuine but expired is let in for token_refresh
// alone: it is not online, and everything else is token_expired.
func (d *Door) Open(_ context.Context, h Hello, l Link) (s *Session, err error) {
	defer func() {
		d.observe(h.Transport, "connect", err)
		d.recordOpen(h, s, err)
	}()
	if h.Arrival == nil {
		h.Arrival = d.arrive(h.Device)
	}
	defer h.Arrival.Done()
	if _, err := d.admit(h.Principal, h.Device); err != nil {
		return nil, err
	}
	h.Arrival.turn()
	s = &Session{door: d, link: l, device: h.Device, transport: h.Transport, hello: h, principal: h.Principal,
		boot: h.Boot, turn: rand.Uint32(), joined: map[devices.Kind]bool{}, gone: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.account = d.Quota.Hold(devices.ActorDevice, string(h.Device))
	if !h.Principal.Expired {
		if err := s.goOnline(); err != nil {
			s.account.Release()
			s.cancel()
			return nil, err
		}
	}
	d.mu.Lock()
	if d.sessions == nil {
		d.sessions = map[devices.ID]map[*Session]struct{}{}
	}
	if d.sessions[h.Device] == nil {
		d.sessions[h.Device] = map[*Session]struct{}{}
	}
	d.sessions[h.Device][s] = struct{}{}
	d.mu.Unlock()
	// The device may have been revoked or disabled between the check and now.
	if _, err := d.admit(h.Principal, h.Device); err != nil {
		s.Close("protocol_error")
		return nil, err
	}
	d.Identity.Used(h.Principal, h.Boot)
	s.watchToken(time.Now())
	return s, nil
}

// goOnline claims an epoch. Liveness may end the session at once, from another
// goroutine, when a newer connection follows.
func (s *Session) goOnline() error {
	s.settleOlder()
	epoch, err := s.door.Liveness.Open(s.device, liveness.Conn{
		Transport: s.transport, Addr: devices.Host(s.hello.Addr), Boot: s.boot, Client: s.hello.Client, OfflineAfter: s.hello.OfflineAfter,
	}, s.endBy)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.epoch = epoch
	s.mu.Unlock()
	return nil
}

// Answered is the transport's word that the device answered the end of this
// connection, which was replaced; sure says that it cannot have been on its way
// before.
func (s *Session) Answered(sure bool) {
	if epoch := s.Epoch(); epoch != 0 {
		s.door.Liveness.Answered(s.device, epoch, sure)
	}
}

// origin is by which way and from where the device speaks, for the audit.
func (s *Session) origin() devices.Origin {
	return devices.Origin{Via: s.transport.Via(), Addr: devices.Host(s.hello.Addr)}
}

// Device is the session's device.
func (s *Session) Device() devices.ID { return s.device }

// Epoch numbers the connection; it rises with every connection of the device.
func (s *Session) Epoch() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Principal is who the session's token names, with its present expiry.
func (s *Session) Principal() identity.Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.principal
}

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// OnDone has f called, on a goroutine of its own, when the session is over.
func (s *Session) OnDone(f func()) (cancel func() bool) { return context.AfterFunc(s.ctx, f) }

// SetBoot records the device's power-up, where it is learned only after Open.
func (s *Session) SetBoot(boot string) {
	s.mu.Lock()
	if boot == "" || s.boot == boot {
		s.mu.Unlock()
		return
	}
	s.boot = boot
	epoch := s.epoch
	s.mu.Unlock()
	if epoch != 0 {
		s.door.Liveness.SetBoot(s.device, epoch, boot)
	}
	s.door.Identity.Used(s.Principal(), boot)
}

// End tells the device why its connection is ended, and closes it.
func (s *Session) End(code devices.Code, reason string) { s.endBy(code, reason, 0) }

func (s *Session) endBy(code devices.Code, reason string, byEpoch int64) {
	s.mu.Lock()
	if s.ended == "" {
		s.ended = code
	}
	s.mu.Unlock()
	s.door.recordEnd(s, code, reason, byEpoch)
	s.link.End(code, reason, byEpoch)
}

func (s *Session) endFor(err error) {
	var e *devices.Error
	if !errors.As(err, &e) {
		e = devices.Refuse(devices.CodePlatformUnavailable, "the hub cannot judge the token")
	}
	s.End(e.Code, e.Reason)
}

// Close is the transport's word that the connection is gone, and why, in the
// reasons that statuses show (client_close, heartbeat_timeout, ...). When the
// hub itself ended the session, its reason stands instead.
func (s *Session) Close(reason string) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	if s.ended != "" {
		reason = endReason(s.ended)
	}
	epoch := s.epoch
	s.mu.Unlock()
	s.door.recordClose(s, reason)
	s.account.Release()
	s.cancel()

	d := s.door
	if epoch != 0 {
		d.Commands.Disconnected(s.device, epoch)
		d.Liveness.Close(s.device, epoch, reason)
	}
	// A newcomer waits for those that stand here, so it must not miss one that liveness
	// still has.
	d.mu.Lock()
	delete(d.sessions[s.device], s)
	delete(d.expiring, s)
	if len(d.sessions[s.device]) == 0 {
		delete(d.sessions, s.device)
	}
	d.mu.Unlock()
	close(s.gone)
}

// endReason is the status reason of a session that the hub ended.
func endReason(c devices.Code) string {
	switch c {
	case devices.CodeReplaced, devices.CodeTokenRevoked, devices.CodeTokenExpired, devices.CodeDeviceDisabled, devices.CodeRateLimited:
		return string(c)
	case devices.CodeTooLarge, devices.CodeInvalid:
		return "protocol_error"
	}
	return "kicked"
}

// JoinParams is what a device says of itself when it joins a topic.
type JoinParams struct {
	Boot       string          `json:"boot"`
	Firmware   string          `json:"fw"`
	SDK        string          `json:"sdk"`
	Proto      string          `json:"proto"`
	Reported   json.RawMessage `json:"reported"` // light: its present state
	ReportedAt int64           `json:"reported_at"`
}

// JoinReply is what a device is told when it joins a topic.
type JoinReply struct {
	ServerTime int64               `json:"server_time"`
	Epoch      int64               `json:"epoch"`
	AckThrough []readings.BootAck  `json:"ack_through"`
	Config     map[string]any      `json:"config"`
	Limits     JoinLimits          `json:"limits"`
	Delta      map[string]any      `json:"delta,omitzero"`   // on the control topic: what the device shall become
	Pending    []commands.Envelope `json:"pending,omitzero"` // there too
}

// JoinLimits are the bounds that a device is told to keep.
type JoinLimits struct {
	FrameBytes      int     `json:"frame_bytes"`
	ReadingsPerPush int     `json:"readings_per_push"`
	PushesInFlight  int     `json:"pushes_in_flight"`
	EventsPerS      float64 `json:"events_per_s"`
}

const maxAbout = 64 // bytes of boot, fw, sdk and proto

// Join brings the device onto the topic of one of its kinds: it is shown there,
// and its own word of itself is taken. Commands flow only after Listen.
func (s *Session) Join(k devices.Kind, p JoinParams) (r JoinReply, err error) {
	if s.transport != devices.OverMQTT { // there nothing of it is on the wire
		s.door.record(s.device, trace.Line{Dir: trace.In, Transport: s.transport, Topic: s.topic(k), Event: "join"}, p)
		defer func() { s.door.recordReply(s.device, s.transport, "join", r, err) }()
	}
	dev, ok := s.door.Registry.Get(s.device)
	if !ok || !dev.Is(k) {
		return JoinReply{}, devices.Refuse(devices.CodeForbidden, "the device is no "+string(k))
	}
	for _, f := range []string{p.Boot, p.Firmware, p.SDK, p.Proto} {
		if len(f) > maxAbout {
			return JoinReply{}, devices.Invalid("boot, fw, sdk, proto", "at most 64 bytes each")
		}
		if !devices.GoodText(f) {
			return JoinReply{}, devices.Invalid("boot, fw, sdk, proto", devices.WantText)
		}
	}
	if p.Boot != "" {
		if err := readings.CheckBoot(p.Boot); err != nil {
			return JoinReply{}, err
		}
	}
	s.SetBoot(p.Boot)
	s.learn(dev, p.Firmware)
	s.mu.Lock()
	s.about = p
	epoch, first := s.epoch, !s.joined[k]
	s.joined[k] = true
	s.mu.Unlock()

	if epoch != 0 {
		if first {
			if err := s.show(k); err != nil {
				return JoinReply{}, err
			}
		}
		if k == devices.KindLight && len(p.Reported) > 0 {
			if _, err := s.door.Commands.Report(s.device, epoch, time.Now(), syncReport(p)); err != nil {
				return JoinReply{}, err
			}
		}
	}
	return s.joinReply(dev, k, epoch), nil
}

// show makes the device present on the topic of kind k.
func (s *Session) show(k devices.Kind) error {
	s.mu.Lock()
	meta := map[string]any{"epoch": s.epoch, "node": s.door.Node, "transport": s.transport, "online_at": time.Now().UnixMilli()}
	for key, v := range map[string]string{"fw": s.about.Firmware, "sdk": s.about.SDK, "proto": s.about.Proto} {
		if v != "" {
			meta[key] = v
		}
	}
	s.mu.Unlock()
	return s.door.Presence.Track(s, k, s.device, meta)
}

// syncReport is the state that a device gives when it joins, as a report that
// is no event for those who watch.
func syncReport(p JoinParams) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(p.Reported, &fields) != nil || fields == nil {
		return p.Reported // refused with its own error
	}
	fields["cause"] = json.RawMessage(`"sync"`)
	if _, has := fields["t"]; !has && p.ReportedAt > 0 {
		fields["t"], _ = json.Marshal(p.ReportedAt)
	}
	b, _ := json.Marshal(fields)
	return b
}

func (s *Session) joinReply(dev *devices.Device, k devices.Kind, epoch int64) JoinReply {
	l := s.door.Limits()
	r := JoinReply{
		ServerTime: time.Now().UnixMilli(), Epoch: epoch, AckThrough: s.door.Readings.AckThrough(s.device), Config: Config(dev),
		Limits: JoinLimits{l.FrameBytes, l.ReadingsPerPush, s.pushesInFlight(l), l.EventsPerSecond},
	}
	if r.AckThrough == nil {
		r.AckThrough = []readings.BootAck{}
	}
	if k == dev.ControlTopicKinds()[0] && epoch != 0 {
		r.Delta, r.Pending = s.door.Commands.Delta(s.device), s.door.Commands.Pending(s.device)
	}
	return r
}

func (s *Session) pushesInFlight(l Limits) int {
	if s.hello.InFlight > 0 {
		return s.hello.InFlight
	}
	return l.PushesInFlight
}

// Listen says that the device hears commands from now on.
func (s *Session) Listen() {
	dev, ok := s.door.Registry.Get(s.device)
	if !ok {
		return
	}
	k := dev.ControlTopicKinds()[0]
	s.mu.Lock()
	epoch, already, heard := s.epoch, s.listening, s.joined[k]
	if epoch != 0 && !already && heard {
		s.listening = true
	}
	s.mu.Unlock()
	if epoch == 0 || already || !heard {
		return
	}
	s.door.Commands.Connected(s.device, epoch, s.transport, s.hello.Window, func(e commands.Envelope) bool {
		return s.send(k, "command", e)
	})
	s.ping(time.Now())
}

// topics are the kinds on whose topics the device is.
func (s *Session) topics() []devices.Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.joined))
}
