package sim

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"devicehub/firmware-sim/hostile"
	"devicehub/firmware-sim/profile"
)

// Those who mean harm come beside the fleet: stolen devices, a person and a service account that
// are made for the run, and strangers. Nothing is judged by what becomes of them, but by what the
// fleet notices of them.

// besieger is all who do harm of one kind, from one moment on, as far as they fall to this process.
type besieger struct {
	*profile.Hostile
	parties int // of all processes
	mine    []int
	stolen  map[int]NewDevice // by party
	tokens  map[string]string // of stolen devices
	tally   hostile.Tally
}

// Besieged is what became of those who did harm of one kind.
type Besieged struct {
	What    string `json:"what"`
	Kind    string `json:"kind"`
	Parties int    `json:"parties"`
	hostile.Counts
}

// planHostile lays out who comes.
func (s *Sim) planHostile() {
	devices := s.profile.Devices(s.cfg.Scale)
	for i := range s.profile.Hostile {
		h := &s.profile.Hostile[i]
		b := &besieger{Hostile: h, parties: h.Parties(s.cfg.Scale, devices), stolen: map[int]NewDevice{}}
		for n := range b.parties {
			if n%s.cfg.Shards != s.cfg.Shard {
				continue
			}
			b.mine = append(b.mine, n)
			if h.By() == profile.ByDevice {
				b.stolen[n] = NewDevice{
					ID: fmt.Sprintf("sim-%s-stolen-%d-%d", s.run, i+1, n+1), Kinds: []string{"sensor"},
					Name:   fmt.Sprintf("Stolen device %d of %d", n+1, b.parties),
					Labels: map[string]string{"sim": s.run},
				}
			}
		}
		s.besiegers = append(s.besiegers, b)
	}
}

// comes reports whether somebody of those is to come.
func (s *Sim) comes(by profile.By) bool {
	for _, b := range s.besiegers {
		if b.By() == by && len(b.mine) > 0 {
			return true
		}
	}
	return false
}

// guest is the name of the person, and of the account, that do harm.
func (s *Sim) guest() string { return fmt.Sprintf("sim-%s-%d", s.run, s.cfg.Shard) }

// topics are where the account may publish.
func (s *Sim) topics() string { return "sim/" + s.guest() }

// invite makes those who do harm, and their credentials. known are the devices of an earlier
// process.
func (s *Sim) invite(ctx context.Context, known map[string]bool) error {
	for _, b := range s.besiegers {
		if err := s.steal(ctx, b, known); err != nil {
			return fmt.Errorf("devices to be stolen: %w", err)
		}
	}
	if s.comes(profile.ByPerson) {
		password := rand.Text()
		if err := s.api.AddViewer(ctx, s.guest(), password); err != nil {
			return fmt.Errorf("a person who does harm: %w", err)
		}
		s.person = NewAPI(s.cfg.Hub, s.guest(), password, "")
		if s.cfg.Dial != nil {
			s.person.dial(s.cfg.Dial)
		}
	}
	if s.comes(profile.ByAccount) {
		token, err := s.api.AddAccount(ctx, s.guest(), s.topics()+"/#")
		if s.account = token; err != nil {
			return fmt.Errorf("a service account that does harm: %w", err)
		}
	}
	return nil
}

// steal makes the devices of a kind.
func (s *Sim) steal(ctx context.Context, b *besieger, known map[string]bool) (err error) {
	b.tokens = map[string]string{}
	var made []NewDevice
	for _, d := range b.stolen {
		if !known[d.ID] {
			made = append(made, d)
		} else if b.tokens[d.ID], err = s.api.Issue(ctx, d.ID); err != nil {
			return err
		}
	}
	if len(made) == 0 {
		return nil
	}
	tokens, err := s.api.Register(ctx, made)
	for id, token := range tokens {
		b.tokens[id] = token
	}
	return err
}

// dismiss removes those who did harm. They are never left behind.
func (s *Sim) dismiss(ctx context.Context) {
	if len(s.besiegers) == 0 || !s.reachable(ctx) {
		return
	}
	gone := func(what string, err error) {
		if err != nil {
			s.cfg.Log.Warn("not removed", "what", what, "err", err)
		}
	}
	for _, b := range s.besiegers {
		for _, d := range b.stolen {
			gone(d.ID, s.api.Remove(ctx, d.ID))
		}
	}
	if s.person != nil {
		s.person.Close()
		gone("person "+s.guest(), s.api.RemoveUser(ctx, s.guest()))
	}
	if s.account != "" {
		gone("account "+s.guest(), s.api.RemoveAccount(ctx, s.guest()))
	}
}

// besiege has each do harm when it is its time.
func (s *Sim) besiege(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, b := range s.besiegers {
		from := s.began.Add(b.At)
		if len(b.mine) == 0 || !from.Add(b.For).After(s.resumed) {
			continue
		}
		wg.Go(func() {
			if sleep(ctx, time.Until(from)); ctx.Err() == nil {
				s.besiegeBy(ctx, b, from.Add(b.For))
			}
		})
	}
}

func (s *Sim) besiegeBy(ctx context.Context, b *besieger, until time.Time) {
	s.note(faultEvent+"%v", b.Hostile)
	began, before := time.Now(), b.tally.Counts()
	defer s.weather.hostile()()
	defer s.inForceTill(b.Hostile.String(), until)()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var wg sync.WaitGroup
	for _, n := range b.mine {
		wg.Go(func() {
			if err := hostile.Play(ctx, b.Hostile, s.target(b, n), n, &b.tally); err != nil {
				s.judge.unable("%v", err)
			}
		})
	}
	wg.Wait()
	s.judgeUnchecked(b, began, before)
}

// target is the hub, and who a party is to it.
func (s *Sim) target(b *besieger, n int) hostile.Target {
	t := hostile.Target{Hub: s.cfg.Hub, MQTT: s.cfg.MQTT, Dial: s.dialFor(n)}
	fixed := func(token string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return token, nil }
	}
	switch b.By() {
	case profile.ByDevice:
		t.ID = b.stolen[n].ID
		t.Token = fixed(b.tokens[t.ID])
		t.Answered = func(d time.Duration) { s.stats.record("hostile_answer_ms", d) }
	case profile.ByPerson:
		t.ID, t.Token = s.guest(), s.person.Token
		for i := range min(topicsPerWatcher, len(s.units)) {
			t.Topics = append(t.Topics, s.units[(n*topicsPerWatcher+i)%len(s.units)].topic())
		}
	case profile.ByAccount:
		t.ID, t.Token, t.Prefix = s.guest(), fixed(s.account), s.topics()
	}
	return t
}

// topic is where people watch the device.
func (u *unit) topic() string {
	if u.group.Sensor {
		return "sensor:" + u.id
	}
	return "light:" + u.id
}

// judgeUnchecked notes when the hub put a stop to nothing, though it had the time to.
func (s *Sim) judgeUnchecked(b *besieger, began time.Time, before hostile.Counts) {
	took, now := time.Since(began), b.tally.Counts()
	if took < b.Within || !s.faults.calmFor(began, took) {
		return
	}
	s.judge.checked("hostile_unchecked", 1)
	stops := now.Checked() - before.Checked()
	if b.MustCut() {
		stops -= now.HeldUp - before.HeldUp
	}
	if stops > 0 {
		return
	}
	s.judge.found("hostile_unchecked", Finding{
		Text: fmt.Sprintf("%v: nobody was refused or cut off in %v", b.Hostile, took.Round(time.Second)),
		Line: []string{
			stamp(began) + "  they began",
			fmt.Sprintf("%s  %d tried since, %d taken, held up for %d s", stamp(time.Now()),
				now.Tried-before.Tried, now.Taken-before.Taken, now.HeldUp-before.HeldUp),
		},
	})
}

// besieged is what became of them, for the report.
func (s *Sim) besieged() (out []Besieged) {
	for _, b := range s.besiegers {
		out = append(out, Besieged{b.Hostile.String(), string(b.Kind), len(b.mine), b.tally.Counts()})
	}
	return out
}
