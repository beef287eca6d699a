package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
)

// service is one connection of a service account: a client of the small broker,
// within the account's topic filters.
//
// Below the hub's own root it may publish commands to lights in Home
// Assistant's way (<root>/<id>/ha/…/set) and nothing else: what stands there is
// the hub's word.
type service struct {
	*conn
	account Account // as it signed in
	grant   *grant  // and as it is now
	key     clientKey
	sess    *broker.Session
	aliases map[uint16]string // the reader's
	aliased int               // bytes of them
	open    map[uint16]bool   // QoS 2 publishes taken and not released; guarded by in.mu
	expiry  *time.Duration    // its last word on the session
}

// enterService lets a service account in.
func (c *conn) enterService(pk *packet.Packet, name, password string) (peer, error) {
	account, err := c.srv.accounts.SignIn(c.addr(), name, password)
	if err != nil {
		return nil, err
	}
	owner := broker.Owner{Name: account.Name, Identity: account.Identity}
	s := &service{conn: c, account: account, grant: c.srv.grantOf(owner)}
	c.drained = func() { s.sess.Pump() }
	id := strings.Clone(pk.Connect.ClientIdentifier)
	assigned := ""
	if id == "" {
		assigned = "auto-" + rand.Text()
		id = assigned
	}
	will, err := s.will(pk)
	if err != nil {
		return nil, err
	}
	client := broker.Client{
		Owner: owner, ID: id, Version: c.version, Clean: pk.Connect.Clean, Expiry: s.sessionExpiry(pk),
		ReceiveMax: c.receiveMax(pk), MaxPacket: pk.Properties.MaximumPacketSize, AliasMax: pk.Properties.TopicAliasMaximum,
		Will: will, WillDelay: time.Duration(pk.Connect.WillProperties.WillDelayInterval) * time.Second,
		Link: s, Kept: account.Kept,
	}
	s.key = clientKey{owner, id}
	c.srv.settleOlder(s.key)
	sess, present, ok := c.srv.broker.Connect(client)
	if !ok {
		return nil, devices.Refuse(devices.CodeOverloaded, "no room for another session")
	}
	s.sess = sess
	c.srv.enter(s) // before the client knows that it is in
	c.maxIn = max(c.maxIn, c.srv.cfg.ServicePacket)
	c.patience(c.keepAlive(pk))
	welcome := c.welcome(pk, present, func(p *packet.Properties) {
		p.AssignedClientID = assigned
		if granted := sess.Granted(); granted < client.Expiry {
			p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = uint32(granted/time.Second), true
		}
	})
	if !welcome {
		s.gone()
		return nil, errEndedEarly
	}
	c.out.max = max(c.limits.OutboundBytes, serviceOutbound)
	s.check() // what changed before the connection was among those that are looked at
	sess.Resume()
	return s, nil
}

// serviceOutbound is room for a window of large messages beside the backlog; the
// session holds back what goes beyond.
const serviceOutbound = 8 << 20

func (s *service) sessionExpiry(pk *packet.Packet) time.Duration {
	if pk.ProtocolVersion != packet.V5 && !pk.Connect.Clean {
		return s.srv.cfg.Sessions.MaxExpiry
	}
	return sessionExpiry(pk)
}

func (s *service) will(pk *packet.Packet) (*broker.Message, error) {
	if !pk.Connect.WillFlag {
		return nil, nil
	}
	if !s.grant.MayPublish(pk.Connect.WillTopic) {
		if isBridgeState(pk.Connect.WillTopic) {
			return nil, nil // which is for nobody here
		}
		if !broker.ValidTopic(pk.Connect.WillTopic) {
			return nil, &packet.Error{Code: packet.InvalidTopic, What: "the will's topic has too many levels"}
		}
		return nil, devices.Refuse(devices.CodeForbidden, "the will's topic is not among the account's")
	}
	if pk.Connect.WillRetain && s.srv.topics.isSet(pk.Connect.WillTopic) {
		s.retainedSet()
		return nil, devices.Refuse(devices.CodeRetainedCommand, "a command is not retained")
	}
	return broker.Will(pk, time.Now()), nil
}

// handle takes one packet of the account.
func (s *service) handle(pk *packet.Packet) error {
	switch t := pk.FixedHeader.Type; t {
	case packet.Publish:
		return s.publish(pk)
	case packet.Pubrel:
		s.release(pk.PacketID)
	case packet.Puback, packet.Pubrec, packet.Pubcomp:
		return s.sess.Acked(t, pk.PacketID, pk.ReasonCode)
	case packet.Subscribe:
		s.subscribe(pk)
	case packet.Unsubscribe:
		names := make([]string, len(pk.Filters))
		for i, f := range pk.Filters {
			names[i] = f.Filter
		}
		id, codes := pk.PacketID, s.sess.Unsubscribe(names)
		s.sess.Durable(func() { s.reply(packet.Unsuback, id, codes) })
	case packet.Pingreq:
		s.put(packet.AppendPingresp)
	case packet.Disconnect:
		return s.disconnect(pk)
	case packet.Connect: // [MQTT-3.1.0-2]
		return &packet.Error{Code: packet.ProtocolError, What: "second CONNECT"}
	default:
		return &packet.Error{Code: packet.ProtocolError, What: "unexpected packet"}
	}
	return nil
}

func (s *service) publish(pk *packet.Packet) error {
	if err := s.resolveAlias(pk); err != nil {
		return err
	}
	if pk.TopicName == "" {
		return &packet.Error{Code: packet.ProtocolError, What: "no topic and no alias"}
	}
	qos := pk.FixedHeader.Qos
	if s.account.Wait != nil {
		s.delay(s.account.Wait())
	}
	if err := s.admit(qos); err != nil {
		return err
	}
	p := &publication{s: s, qos: qos, id: pk.PacketID, at: s.heard}
	switch {
	case !s.grant.MayPublish(pk.TopicName):
		p.Decided(s.mayNot(pk.TopicName))
	case pk.FixedHeader.Retain && s.srv.topics.isSet(pk.TopicName):
		s.retainedSet()
		s.refusedPublish(pk.TopicName, devices.CodeRetainedCommand)
		p.Decided(devices.Refuse(devices.CodeRetainedCommand, "a command is not retained"))
	default:
		// The poller wakes readers that became ready together last first. A
		// SUBSCRIBE that came before this on another connection goes before it.
		runtime.Gosched()
		s.sess.Publish(pk, p)
	}
	return nil
}

// mayNot is why the account may not publish on a topic; nil where that is of no
// consequence.
func (s *service) mayNot(topic string) error {
	if isBridgeState(topic) {
		return nil
	}
	s.srv.stats.foreign.Add(1)
	if !broker.ValidTopic(topic) { // the specification's own rules were kept
		s.refusedPublish(topic, devices.CodeInvalid)
		return errTopicDepth
	}
	s.refusedPublish(topic, devices.CodeForbidden)
	return devices.Refuse(devices.CodeForbidden, "this topic is not among the account's")
}

// errTopicDepth is the fate of a message on a topic of more levels than the broker
// has.
var errTopicDepth = &packet.Error{Code: packet.InvalidTopic, What: fmt.Sprintf("more than %d levels", broker.MaxLevels)}

// refusedPublish logs what the acknowledgement of MQTT 3.1.1, and none at QoS 0, says.
func (s *service) refusedPublish(topic string, code devices.Code) {
	s.srv.refusals.Warn("mqtt publish refused", s.addr(), string(code), "user", s.user, "topic", topic)
}

// delay keeps the account's messages waiting: they cannot all be refused, and what comes too fast is
// not read.
func (s *service) delay(d time.Duration) {
	if d <= 0 {
		return
	}
	s.settle()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.over:
	}
	s.working()
	s.heard = time.Now()
}

// publication is one publish of an account until its fate is decided: it is
// acknowledged after that (devices/PROTOCOL.md#mqtt).
type publication struct {
	s   *service
	qos byte
	id  uint16
	at  time.Time
}

// adapterPatience is how long an adapter tries to hand on what the hub cannot
// take now, before the account is told to send it again.
const adapterPatience = 5 * time.Second

// Again is the broker's. What nobody would send again is kept; so is what only
// came too fast, which holds the account up and nothing else.
func (p *publication) Again(err error) bool {
	return p.qos == 0 || !p.s.isOver() && (refusal(err).Code == devices.CodeRateLimited || time.Since(p.at) < adapterPatience)
}

// Decided is the broker's.
func (p *publication) Decided(err error) {
	s, code := p.s, byte(packet.Success)
	var e *devices.Error
	switch {
	case errors.Is(err, broker.ErrFull):
		e = errNoRoom
	case errors.Is(err, broker.ErrNotKept):
		e = errNotKept
	case err == errTopicDepth:
		code = packet.InvalidTopic
	case err != nil:
		e = refusal(err)
	}
	if e != nil {
		code = ackCode(e.Code)
	}
	retry := e != nil && e.Retryable()
	if retry {
		s.srv.stats.retryable.Add(1)
	}
	if p.qos == 2 && code < packet.Unspecified {
		s.hold(p.id)
	}
	s.leave(p.qos, e, stallMax-time.Since(p.at))
	switch {
	case p.qos == 0, retry && s.version != packet.V5:
		return
	case s.version != packet.V5:
		code = packet.Success
	}
	typ := packet.Puback
	if p.qos == 2 {
		typ = packet.Pubrec
	}
	s.put(func(b []byte) []byte { return packet.AppendAck(b, typ, p.id, s.version, code) })
}

// What the broker refuses is not acknowledged over MQTT 3.1.1, as if it were to
// be sent again: an acknowledged message is kept.
var (
	errNoRoom  = devices.Refuse(devices.CodeOverloaded, "no room for another retained message").After(10 * time.Second)
	errNotKept = devices.Refuse(devices.CodePlatformUnavailable, "messages cannot be kept at present").After(5 * time.Second)
)

// release takes a PUBREL.
func (s *service) release(id uint16) {
	s.sess.Release(id, func(known bool) {
		code := byte(packet.Success)
		if !known {
			code = packet.PacketIDNotFound
		}
		s.released(id)
		s.put(func(b []byte) []byte { return packet.AppendAck(b, packet.Pubcomp, id, s.version, code) })
	})
}

// hold counts a QoS 2 publish against the client's quota until it is released.
func (s *service) hold(id uint16) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	if s.open == nil {
		s.open = map[uint16]bool{}
	}
	s.open[id] = true
	s.in.held = len(s.open)
}

func (s *service) released(id uint16) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	delete(s.open, id)
	s.in.held = len(s.open)
}

func (s *service) retainedSet() {
	s.srv.stats.retained.Add(1)
	s.srv.record("service:"+s.account.Name, "mqtt.retained", devices.CodeRetainedCommand)
}

// maxAliased bounds the topics behind an account's topic aliases on one
// connection, in bytes.
const maxAliased = 16 << 10

// resolveAlias puts the topic behind a topic alias in its place, before the
// account's filters are asked.
func (s *service) resolveAlias(pk *packet.Packet) error {
	if !pk.Properties.TopicAliasFlag {
		return nil
	}
	a := pk.Properties.TopicAlias
	switch {
	case a == 0 || a > maxAliases:
		return &packet.Error{Code: packet.InvalidTopicAlias, What: "topic alias out of range"}
	case pk.TopicName != "":
		if s.aliases == nil {
			s.aliases = map[uint16]string{}
		}
		if s.aliased += len(pk.TopicName) - len(s.aliases[a]); s.aliased > maxAliased {
			return &packet.Error{Code: packet.QuotaExceeded, What: "the topics of the aliases are too long"}
		}
		s.aliases[a] = strings.Clone(pk.TopicName)
	case s.aliases[a] == "":
		return &packet.Error{Code: packet.ProtocolError, What: "unknown topic alias"}
	default:
		pk.TopicName = s.aliases[a]
	}
	return nil
}

func (s *service) subscribe(pk *packet.Packet) {
	filters := make([]broker.Filter, len(pk.Filters))
	for i, f := range pk.Filters {
		filters[i] = broker.Filter{Name: f.Filter, QoS: f.Qos, NoLocal: f.NoLocal || s.bridge, AsPublished: f.RetainAsPublished || s.bridge,
			Handling: f.RetainHandling, ID: f.Identifier}
	}
	codes := s.sess.Subscribe(filters)
	for i, code := range codes {
		if code == packet.NotAuthorized && isSys(filters[i].Name) {
			codes[i] = filters[i].QoS // and nothing ever comes
			continue
		}
		if code >= packet.Unspecified && (s.version != packet.V5 || s.srv.cfg.VagueRefusals) {
			codes[i] = packet.Unspecified // all that 3.1.1 has: Failure
		}
	}
	id := pk.PacketID
	s.sess.Durable(func() {
		s.reply(packet.Suback, id, codes)
		s.sess.Pump()
	})
}

func (s *service) disconnect(pk *packet.Packet) error {
	if pk.Properties.SessionExpiryIntervalFlag {
		d := time.Duration(pk.Properties.SessionExpiryInterval) * time.Second
		if s.sess.Granted() == 0 && d > 0 { // MQTT 5 §3.14.2.2.2
			return &packet.Error{Code: packet.ProtocolError, What: "session expiry raised from 0"}
		}
		s.expiry = &d
	}
	s.end(ending{reason: "client_close", quiet: true, clean: pk.ReasonCode != packet.DisconnectWithWill})
	return nil
}

// gone detaches the connection from its session.
func (s *service) gone() {
	s.conn.mu.Lock()
	clean := s.ended && s.ending.clean
	s.conn.mu.Unlock()
	s.srv.quit(s)
	s.sess.Detach(s, clean, s.expiry)
}

// Write is the broker's.
func (s *service) Write(pk *packet.Packet) bool {
	return s.put(func(b []byte) []byte { return appendPacket(b, pk) })
}

// Backlog is the broker's.
func (s *service) Backlog() int { return s.out.size() }

// WhenDrained is the broker's.
func (s *service) WhenDrained() {
	if s.out.whenEmpty() {
		s.writers.Go(s.flush)
	}
}

// End is the broker's.
func (s *service) End(code byte, reason string) {
	s.end(ending{reason: "replaced", code: code, text: reason})
}

// Address is the broker's.
func (s *service) Address() (transport, addr string) { return s.transport(), s.addr() }
