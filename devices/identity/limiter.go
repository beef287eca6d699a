package identity

import (
	"context"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// limiter slows the guessing of passwords. An address may fail so often a
// minute, whatever names it tries; beyond that it is refused. A name may be
// failed so often a minute, from wherever; beyond that the addresses that
// failed it are refused, and every other address waits nameDelay for its answer:
// a delay, never a lock-out.
//
// An attempt counts as failed until it has succeeded, so that many at once gain
// nothing.
type limiter struct {
	addrs, names, pairs quota.Table // pairs: the name at the address
	sites               quota.Table // of IPv6, several times as high as addrs
	// Of an address that hides who calls, sharers are bounded each under its name, and all
	// together ten times as high.
	shared, sharers quota.Table
}

const (
	sharersAt = 10
	sitesAt   = 4
)

const nameDelay = 2 * time.Second

// SetLoginLimits changes how many failed logins a minute are borne per address
// and per name; 0 means the default, 30 and 10.
func (s *Service) SetLoginLimits(perAddress, perName int) {
	if perAddress <= 0 {
		perAddress = 30
	}
	if perName <= 0 {
		perName = 10
	}
	minute := func(n int) quota.Rate { return quota.Rate{PerSecond: float64(n) / 60, Burst: float64(n)} }
	s.limiter.addrs.SetRate(minute(perAddress))
	s.limiter.names.SetRate(minute(perName))
	s.limiter.pairs.SetRate(minute(perName))
	s.limiter.sites.SetRate(minute(sitesAt * perAddress))
	s.limiter.sharers.SetRate(minute(perAddress))
	s.limiter.shared.SetRate(minute(sharersAt * perAddress))
}

// begin takes one failure from the address's and the name's budget. It returns
// how long the attempt has to wait, or a rate_limited error. succeeded gives
// back what was taken.
func (l *limiter) begin(now time.Time, o devices.Origin, name string) (wait time.Duration, succeeded func(), err error) {
	addr := quota.Address(o.Addr)
	of, both := quota.Stranger{Name: name}, quota.Stranger{Addr: addr, Name: name}
	give, err := l.address(now, addr, name, o.Shared)
	if err != nil {
		return 0, nil, err
	}
	named := true
	var ok bool
	if wait, ok = l.names.Take(of, now); !ok {
		if !o.Shared && !l.pairs.Full(both, now) { // it is one of those that failed
			give()
			return 0, nil, tooMany(wait)
		}
		named, wait = false, nameDelay
	}
	_, paired := l.pairs.Take(both, now)
	return wait, func() {
		give()
		if named {
			l.names.Give(of, now)
		}
		if paired {
			l.pairs.Give(both, now)
		}
	}, nil
}

// address takes one from the budget of the address, and returns what gives it back.
func (l *limiter) address(now time.Time, addr, name string, shared bool) (give func(), err error) {
	type share struct {
		of  *quota.Table
		who quota.Stranger
	}
	from := []share{{&l.addrs, quota.Stranger{Addr: addr}}}
	if site := quota.Site(addr); site != "" {
		from = append(from, share{&l.sites, quota.Stranger{Addr: site}})
	}
	if shared {
		from = []share{{&l.sharers, quota.Stranger{Addr: addr, Name: name}}, {&l.shared, quota.Stranger{Addr: addr}}}
	}
	var taken []share
	give = func() {
		for _, s := range taken {
			s.of.Give(s.who, now)
		}
	}
	for _, s := range from {
		wait, ok := s.of.Take(s.who, now)
		if !ok {
			give()
			return nil, tooMany(wait)
		}
		taken = append(taken, s)
	}
	return give, nil
}

func tooMany(wait time.Duration) error {
	return devices.Refuse(devices.CodeRateLimited, "too many failed sign-ins").After(max(wait, time.Second))
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
